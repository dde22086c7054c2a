//! Access rules: playback tokens made by another program, addresses, and the logs of both.

use super::*;

/// Python's own HMAC, as the guide has it.
const SIGN: &str = r#"
import base64, hashlib, hmac, sys
secret, said = sys.argv[1:]
url = lambda data: base64.urlsafe_b64encode(data).rstrip(b"=").decode()
payload = url(said.encode())
print(payload + "." + url(hmac.new(secret.encode(), payload.encode(), hashlib.sha256).digest()), end="")
"#;
const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn token(said: &str) -> String {
    let output = Command::new("python3").args(["-c", SIGN, SECRET, said]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_playback_token_opens_what_it_names_for_as_long_as_it_says() {
    if !have("python3") {
        return;
    }
    let origin = Scripted::start(|asked: &Asked| {
        answer(200, &[("Cache-Control", "max-age=600")], format!("{} {}", asked.path, asked.time).as_bytes())
    });
    let address = origin.address();
    let mut story = Story::new();
    let keys = story.dir().join("playback.keys");
    std::fs::write(&keys, format!("k1 {SECRET}\n")).unwrap();
    let log = story.dir().join("access.log");
    story.daemon_extra = format!(
        "[http.access_log]\npath = {log:?}\n[[access]]\nname = \"paid\"\ntoken_keys_file = {keys:?}\n\
         [[access]]\nname = \"none\"\ndeny = [\"127.0.0.0/8\"]\n\
         [[route]]\npath = \"/vod/\"\nbase = \"http://{address}/\"\naccess = \"paid\"\n\
         [[route]]\npath = \"/free/\"\nbase = \"http://localhost:{}/free/\"\n\
         [[route]]\npath = \"/no/\"\nbase = \"http://{address}/no/\"\naccess = \"none\"\n",
        address.port()
    );
    story.start_daemon();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let good = token(&format!("exp={}&prefix=/vod/film/&ip=127.0.0.1&kid=k1", now + 60));
    let ask = |path: &str| {
        let response = get(story.http, path, &[]).unwrap();
        (response.status, String::from_utf8(response.body).unwrap())
    };
    let fetched = (200, "/film/a?x=1 1".to_owned());
    assert_eq!(ask(&format!("/vod/film/a?x=1&sktoken={good}")), fetched);
    // The token is not part of the object, and the origin does not see it; with the path it goes along with relative URLs.
    assert_eq!(ask(&format!("/vod/film/a?sktoken={good}&x=1")), fetched);
    assert_eq!(ask(&format!("/sktoken={good}/vod/film/a?x=1")), fetched);
    assert!(origin.asked("/film/a?x=1").len() == 1);
    let expired = token(&format!("exp={}&kid=k1", now - 1));
    let elsewhere = token(&format!("exp={}&ip=192.0.2.0/24&kid=k1", now + 60));
    let unknown = token(&format!("exp={}&kid=k9", now + 60));
    let altered = format!("{good}A");
    for (path, reason) in [
        ("/vod/film/a?x=1".to_owned(), "no_token"),
        // By other names it is the same object.
        (format!("/{address}/film/a?x=1"), "no_token"),
        (format!("/vod/film/a?x=1&sktoken={expired}"), "expired"),
        (format!("/vod/film/a?x=1&sktoken={altered}"), "bad_token"),
        (format!("/vod/film/a?x=1&sktoken={elsewhere}"), "other_address"),
        (format!("/vod/film/a?x=1&sktoken={unknown}"), "unknown_key"),
        (format!("/sktoken={good}/vod/show/a"), "other_path"),
        (format!("/sktoken={good}/vod/film/../show/a"), "other_path"),
        (format!("/no/a?sktoken={good}"), "denied"),
    ] {
        let name = format!("access_refused_total{{reason=\"{reason}\"}}");
        let before = story.metric(&name);
        let (status, text) = ask(&path);
        assert!(status == 403 && !text.contains("film/a 1"), "{path}: {status} {text}");
        assert_eq!(story.metric(&name), before + 1, "{path}");
    }
    assert_eq!(ask("/free/a"), (200, "/free/a 1".to_owned()));
    // Whose key is taken away is refused a moment later.
    std::fs::write(&keys, format!("k2 {SECRET}x\n")).unwrap();
    story.until("the keys are read again", Duration::from_secs(20), |story| {
        get(story.http, &format!("/vod/film/a?x=1&sktoken={good}"), &[]).unwrap().status == 403
    });
    let ended = story.daemon.take().unwrap().stop();
    let written = std::fs::read_to_string(log).unwrap();
    assert!(written.contains("/sktoken=…/vod/film/a"), "{written}");
    for secret in [SECRET, &good, &expired] {
        assert!(!written.contains(secret) && !ended.contains(secret));
    }
}

#[test]
fn a_route_that_a_reload_guards_is_guarded_at_once() {
    let origin = Scripted::start(|asked: &Asked| {
        answer(200, &[("Cache-Control", "max-age=600")], format!("{} {}", asked.path, asked.time).as_bytes())
    });
    let address = origin.address();
    let mut story = Story::new();
    let route = format!("[[route]]\npath = \"/vod/\"\nbase = \"http://{address}/\"\n");
    story.daemon_extra.clone_from(&route);
    story.start_daemon();
    // The second and third answers come from a worker's memory of the last seconds.
    for _ in 0..3 {
        assert_eq!(get(story.http, "/vod/a", &[]).unwrap().status, 200);
    }
    story.daemon_extra =
        format!("[[access]]\nname = \"none\"\ndeny = [\"127.0.0.0/8\"]\n{route}access = \"none\"\n");
    story.daemon_config();
    let daemon = story.daemon.as_ref().unwrap();
    daemon.signal("HUP");
    story.until("the configuration is read again", Duration::from_secs(20), |story| {
        story.daemon.as_ref().unwrap().log().contains("configuration reloaded")
    });
    assert_eq!(get(story.http, "/vod/a", &[]).unwrap().status, 403);
    // And one that is opened again is open.
    story.daemon_extra = route;
    story.daemon_config();
    story.daemon.as_ref().unwrap().signal("HUP");
    story.until("it is open again", Duration::from_secs(20), |story| {
        get(story.http, "/vod/a", &[]).unwrap().status == 200
    });
    assert_eq!(origin.asked("/a").len(), 1);
}
