//! The connection to the server.

use crate::args::{Args, login_name};
use crate::exit::{Exit, Failure};
use std::time::Duration;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

/// Says who sends each request. Until certificates exist the server takes our word, on loopback.
#[derive(Clone)]
pub(crate) struct Identity(MetadataValue<Ascii>);

impl Interceptor for Identity {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("ringfence-user", self.0.clone());
        Ok(request)
    }
}

/// A channel that says who sends.
pub(crate) type Connection = InterceptedService<Channel, Identity>;

/// Connects to the server, within a few seconds.
pub(crate) async fn connect(args: &Args) -> Result<Connection, Failure> {
    let url = match args.server.contains("://") {
        true => args.server.clone(),
        false => format!("http://{}", args.server),
    };
    let endpoint = Endpoint::from_shared(url.clone()).map_err(|e| {
        Failure::new(
            Exit::Usage,
            format!("--server {}: {e}; it must be like 127.0.0.1:7443", args.server),
        )
    })?;
    let endpoint = match url.starts_with("https://") {
        true => endpoint.tls_config(tls(args)?).map_err(|e| {
            Failure::new(Exit::Usage, format!("--server {}: TLS: {e}", args.server))
        })?,
        false => endpoint,
    };
    let channel =
        endpoint.connect_timeout(Duration::from_secs(5)).connect().await.map_err(|_| Failure {
            exit: Exit::Unreachable,
            message: format!("no Ringfence server answers at {url}"),
            hint: Some(
                "start ringfence-server, or say where it is: --server or RINGFENCE_SERVER".into(),
            ),
        })?;
    let user = args.user.clone().unwrap_or_else(login_name);
    let identity =
        user.parse().ok().filter(|_| !user.trim().is_empty()).ok_or_else(|| Failure {
            exit: Exit::Usage,
            message: format!("`{user}` is no user name"),
            hint: Some("set RINGFENCE_USER to who you are, in printable ASCII".into()),
        })?;
    Ok(InterceptedService::new(channel, Identity(identity)))
}

/// Which certificates a server may have: those of the CA that was named, else the system's.
fn tls(args: &Args) -> Result<ClientTlsConfig, Failure> {
    let Some(path) = &args.ca_file else {
        return Ok(ClientTlsConfig::new().with_native_roots());
    };
    let pem = std::fs::read(path)
        .map_err(|e| Failure::new(Exit::Usage, format!("--ca-file {}: {e}", path.display())))?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}
