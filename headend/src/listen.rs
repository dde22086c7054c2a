//! Listeners of `send`, each in a separate thread with a bounded number of connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Listens at `address` as long as the process runs, and passes each connection to `serve`; beyond `most`, connections wait in
/// the kernel's queue. Returns the actual address.
///
/// # Errors
/// An address in use, or no thread.
pub(crate) fn start<S, F>(
    name: &str,
    address: SocketAddr,
    most: usize,
    state: S,
    serve: impl Fn(Rc<S>, TcpStream) -> F + Send + 'static,
) -> io::Result<SocketAddr>
where
    S: Send + 'static,
    F: Future<Output = ()> + 'static,
{
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let accepting = accept(listener, most, Rc::new(state), serve);
        tokio::task::LocalSet::new().block_on(&runtime, accepting);
    })?;
    Ok(address)
}

async fn accept<S, F>(listener: TcpListener, most: usize, state: Rc<S>, serve: impl Fn(Rc<S>, TcpStream) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let places = Arc::new(Semaphore::new(most));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files: wait until others are closed.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let connection = serve(Rc::clone(&state), stream);
        tokio::task::spawn_local(async move {
            connection.await;
            drop(place);
        });
    }
}
