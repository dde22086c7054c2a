#!/bin/sh
# The Python parser digest-fields-parse reads Want-Repr-Digest in the form of the draft before: "sha-256=0", never, is a wish of weight 1 for "sha-256=0".
#
# RFC 9530 section 4: Want-Content-Digest and Want-Repr-Digest are dictionaries with integers from 0 to 10, where 0 is "not acceptable". Sections
# 2 and 3: digests are byte sequences of Structured Fields, whose base64 is written with its padding (RFC 9651 section 4.1.8):
#                                                  contentdigest, http-sf             digest-fields-parse
#        Want-Repr-Digest: sha-256=0, sha-512=10   sha-512, and no sha-256           "sha-256=0" and "sha-512=10", 1.0 each
#        a wish for sha-256 at 1, sha-512 at 0.3   (an error)                        sha-256;q=1, sha-512;q=0.3
#        Repr-Digest of a body, read and written   sha-256=:...BPE=:                  sha-256=:...BPE:
# One would expect a library that names the RFC's sections in its texts to have its syntax: the parameter q is that of Want-Digest
# (RFC 3230). As a dictionary, what it writes is no wish: a member without a value is true, which is no weight. Seen with
# digest-fields-parse 0.1.1, contentdigest 1.0.0 and http-sf 1.5.0 (PyPI).
#
# A server with it sends the digest that the client cannot use, or none. A reader of Repr-Digest should take base64 without padding, as RFC 9651
# section 4.2.7 asks; one that insists on it has no digest from such a server, and says nothing.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -q digest-fields-parse==0.1.1 contentdigest==1.0.0 http-sf==1.5.0
cat >test.py <<'EOF'
import contentdigest
import digest_fields_parse
import http_sf

wish = "sha-256=0, sha-512=10"
seen = [(it.algorithm, it.q) for it in digest_fields_parse.parse_want_repr_digest(wish)]
print(wish, "->", seen, "by contentdigest:", contentdigest.parse_want(wish))
assert seen == [("sha-256=0", 1.0), ("sha-512=10", 1.0)]
assert contentdigest.parse_want(wish) == {"sha-256": 0, "sha-512": 10} and contentdigest.choose_algorithm(wish) == "sha-512"

preferences = [digest_fields_parse.DigestPreference("sha-256", 1.0), digest_fields_parse.DigestPreference("sha-512", 0.3)]
written = digest_fields_parse.serialize_want_repr_digest(preferences)
as_dictionary = http_sf.parse(written.encode(), tltype="dictionary")
print("written:", written, "->", as_dictionary)
assert written == "sha-256;q=1, sha-512;q=0.3"
assert {name: value[0] for name, value in as_dictionary.items()} == {"sha-256": True, "sha-512": True}
try:
    contentdigest.parse_want(written)
    raise SystemExit("it is read")
except contentdigest.DigestError as error:
    print("contentdigest:", error)

body = b'{"hello": "world"}'
digest = contentdigest.make_digest(body)
again = digest_fields_parse.serialize_repr_digest(digest_fields_parse.parse_repr_digest(digest))
print(digest, "->", again)
assert digest.endswith("PE=:") and again == digest.replace("=:", "@", 1).replace("=:", ":").replace("@", "=:")
assert contentdigest.verify(again, body) and http_sf.parse(again.encode(), tltype="dictionary") == http_sf.parse(digest.encode(), tltype="dictionary")
EOF
venv/bin/python test.py
