//! A TCP proxy on loopback between a client and a server, whose faults are switched at run time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

const BUFFER_BYTES: usize = 16 * 1024;
const MOST_CONNECTIONS: usize = 1_024;

/// What the proxy does with connections, old and new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// Bytes pass.
    Pass,
    /// Every read waits so long, in each direction, before it is passed on.
    Delay(Duration),
    /// New connections are accepted; no byte is read or passed on.
    Stall,
    /// All connections are reset, new ones at once.
    Reset,
    /// All connections are closed and new ones are refused.
    Cut,
}

/// A running proxy. It lives on the runtime that started it; dropping it closes all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    port: u16,
    mode: watch::Sender<ProxyMode>,
    listening: watch::Receiver<bool>,
    _task: JoinSet<()>,
}

impl FaultProxy {
    /// Starts a proxy to `target`, a `host:port`.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(target: &str) -> Self {
        let (port, listener) = listen_anywhere().await;
        let (mode, modes) = watch::channel(ProxyMode::Pass);
        let (listens, listening) = watch::channel(true);
        let mut task = JoinSet::new();
        task.spawn(serve(listener, target.to_owned(), modes, listens));
        Self { port, mode, listening, _task: task }
    }

    /// The port of the proxy, on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `url` with the proxy in place of its host and port.
    ///
    /// # Panics
    /// When it is not a URL with a host.
    #[must_use]
    pub fn in_front_of(&self, url: &str) -> String {
        let mut url: url::Url = url.parse().unwrap_or_else(|error| panic!("not a URL: {error}"));
        let replaced = url.set_host(Some("127.0.0.1")).is_ok() && url.set_port(Some(self.port)).is_ok();
        assert!(replaced, "the URL has no host");
        url.into()
    }

    /// Switches; returns once new connections meet the new mode.
    pub async fn set(&mut self, mode: ProxyMode) {
        self.mode.send_replace(mode);
        let wanted = mode != ProxyMode::Cut;
        // The listener ends only with the runtime, and then nobody waits here.
        let _ = self.listening.wait_for(|listening| *listening == wanted).await;
    }
}

async fn listen_anywhere() -> (u16, TcpListener) {
    loop {
        // A cut proxy must get its port back, so it is none that outgoing connections are given.
        let port = crate::servers::free_port();
        if let Ok(listener) = listen(port).await {
            return (port, listener);
        }
    }
}

async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
}

async fn serve(
    listener: TcpListener,
    target: String,
    mut modes: watch::Receiver<ProxyMode>,
    listens: watch::Sender<bool>,
) {
    let port = listener.local_addr().map(|address| address.port()).unwrap_or_default();
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        let is_cut = *modes.borrow_and_update() == ProxyMode::Cut;
        listener = match (is_cut, listener) {
            (true, _) => None,
            (false, None) => listen(port).await.ok(),
            (false, some) => some,
        };
        listens.send_replace(listener.is_some());
        tokio::select! {
            changed = modes.changed() => if changed.is_err() { return },
            client = accept(listener.as_ref(), &slots) => {
                let (client, slot) = client;
                let (target, modes) = (target.clone(), modes.clone());
                connections.spawn(async move {
                    carry(client, &target, modes).await;
                    drop(slot);
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The next client, once there is a listener and a free slot.
async fn accept(
    listener: Option<&TcpListener>,
    slots: &Arc<Semaphore>,
) -> (TcpStream, Option<tokio::sync::OwnedSemaphorePermit>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    loop {
        if let Ok((client, _)) = listener.accept().await {
            return (client, slot);
        }
    }
}

/// Carries one connection until either side ends it or the mode does.
async fn carry(client: TcpStream, target: &str, mut modes: watch::Receiver<ProxyMode>) {
    let opened = tokio::select! {
        server = open(target, modes.clone()) => server,
        end = ending(&mut modes) => return close(end, client, None),
    };
    let Some(server) = opened else {
        return close(ProxyMode::Reset, client, None);
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (up, down) = (modes.clone(), modes.clone());
    let both = async {
        tokio::join!(copy(&mut from_client, &mut to_server, up), copy(&mut from_server, &mut to_client, down));
    };
    let end = tokio::select! {
        () = both => ProxyMode::Cut,
        end = ending(&mut modes) => end,
    };
    let halves = (from_client.reunite(to_client), from_server.reunite(to_server));
    if let (Ok(client), Ok(server)) = halves {
        close(end, client, Some(server));
    }
}

async fn open(target: &str, mut modes: watch::Receiver<ProxyMode>) -> Option<TcpStream> {
    let _ = modes.wait_for(|mode| *mode != ProxyMode::Stall).await;
    TcpStream::connect(target).await.ok()
}

/// Resolves with the mode that ends connections.
async fn ending(modes: &mut watch::Receiver<ProxyMode>) -> ProxyMode {
    match modes.wait_for(|mode| matches!(mode, ProxyMode::Reset | ProxyMode::Cut)).await {
        Ok(mode) => *mode,
        Err(_) => ProxyMode::Cut,
    }
}

fn close(end: ProxyMode, client: TcpStream, server: Option<TcpStream>) {
    if end == ProxyMode::Reset {
        for stream in [Some(&client), server.as_ref()].into_iter().flatten() {
            // Without it the connection is closed in the ordinary way, which a client sees as an end all the same.
            let _ = stream.set_zero_linger();
        }
    }
}

/// Copies one direction, waiting out stalls and delays, and passes the end of the stream on.
async fn copy(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, mut modes: watch::Receiver<ProxyMode>) {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let _ = modes.wait_for(|mode| *mode != ProxyMode::Stall).await;
        let length = tokio::select! {
            read = from.read(&mut buffer) => read.unwrap_or(0),
            // A stall must take effect also while nothing comes.
            changed = modes.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if let ProxyMode::Delay(wait) = { *modes.borrow() } {
            tokio::time::sleep(wait).await;
        }
        let _ = modes.wait_for(|mode| *mode != ProxyMode::Stall).await;
        if length == 0 || to.write_all(&buffer[..length]).await.is_err() {
            let _ = to.shutdown().await;
            return;
        }
    }
}
