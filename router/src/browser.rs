//! Where browsers and Prometheus come in, as the configuration says.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tracing::info;
use uvs_config::{Config, Http};

use crate::control::{ControlSocket, Handle, open_browser};
use crate::http::{self, Page, Token};
use crate::pages::Live;

/// What was taken before anything was done to the host.
pub(crate) struct Browser {
    /// For metrics alone.
    metrics: Option<TcpListener>,
    /// For everything that there is.
    all: Option<TcpListener>,
    socket: Option<ControlSocket>,
    token: Option<Token>,
}

impl Browser {
    /// Takes the addresses and the socket.
    ///
    /// # Errors
    /// What cannot be had, and a way out.
    pub(crate) async fn open(config: &Config) -> anyhow::Result<Self> {
        let Http { listen, socket, token_file, .. } = &config.http;
        let token = token_file.as_deref().map(Token::at).transpose().map_err(|reason| anyhow!(reason))?;
        // One address for both is no contradiction: who may see the page may see metrics.
        let metrics = config.metrics.filter(|metrics| metrics.port() == 0 || Some(*metrics) != *listen);
        Ok(Self {
            metrics: bind(metrics, "metrics").await?,
            all: bind(*listen, "http").await?,
            socket: socket.as_ref().map(|path| open_browser(path, &config.control)).transpose()?,
            token,
        })
    }

    /// Serves. Who aborts the tasks closes the doors; with the last of them goes the socket's file.
    ///
    /// # Errors
    /// The socket cannot be handed to the runtime.
    pub(crate) fn serve(
        self,
        live: &Arc<Live>,
        config: &Http,
        handle: &Handle,
    ) -> anyhow::Result<Vec<JoinHandle<Infallible>>> {
        let page = || Page::new(handle.clone(), config.hosts.clone(), self.token.clone());
        let page = config.page.then(page);
        let mut tasks = Vec::new();
        if let Some(listener) = self.metrics {
            info!(address = address(&listener), "metrics are served");
            tasks.push(tokio::spawn(http::serve::<Handle>(listener, Arc::clone(live), None)));
        }
        if let Some(listener) = self.all {
            let what = if page.is_some() { "the page is served" } else { "metrics are served" };
            info!(address = address(&listener), "{what}");
            tasks.push(tokio::spawn(http::serve(listener, Arc::clone(live), page.clone())));
        }
        if let Some(socket) = self.socket {
            let door = socket.door().context("the socket of the page cannot be served")?;
            info!(socket = %socket.path().display(), "HTTP is served");
            let serving = http::serve(door, Arc::clone(live), page);
            tasks.push(tokio::spawn(async move {
                let _socket = socket;
                serving.await
            }));
        }
        Ok(tasks)
    }
}

async fn bind(address: Option<SocketAddr>, table: &str) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => http::bind(address, table).await.map(Some),
        None => Ok(None),
    }
}

fn address(listener: &TcpListener) -> String {
    listener.local_addr().map(|address| address.to_string()).unwrap_or_default()
}
