use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

use crate::{Error, Exec, Project};

const PIECE_BYTES: usize = 64 << 10;
/// Whether the port answers within the container, and there is a shell that can speak to it.
const TRY: &str = "exec 3<>\"/dev/tcp/127.0.0.1/$1\"";
/// Both directions, until either ends: what is left then is ended with it, and waited for. The last is a must:
/// an orphan goes to the container's first process, which is the database server, and a server that sees a
/// child of its own die by a signal takes it for a crash and throws everybody out.
const RELAY: &str = "trap : HUP INT PIPE TERM; exec 3<>\"/dev/tcp/127.0.0.1/$1\" 4<&0 || exit 1
    cat <&3 & r=$!; cat <&4 >&3 & w=$!; wait -n $r $w; kill $r $w 2>/dev/null; wait $r; wait $w; exit 0";

impl Project {
    /// Listens on a socket file, and carries what connects there to a port within the service's container,
    /// by commands that run in it: for engines whose containers have no address that this machine reaches.
    /// Only this user can open the socket, because a server may trust whoever comes from within its own
    /// container. It works for as long as the runtime does.
    pub async fn relay(&self, service: &str, port: u16, socket: &Path) -> Result<(), Error> {
        let tried = Exec { command: shell(TRY, port), ..Exec::default() };
        let mut tried = self.exec(service, &tried).await?;
        if tried.exit_code().await? != 0 {
            return Err(Error::NoWayIn { service: service.to_owned(), port });
        }
        let unheard = |source| Error::Relay { path: socket.to_owned(), source };
        let listener = UnixListener::bind(socket).map_err(unheard)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(unheard)?;
        let (project, service) = (self.clone(), service.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (project, service) = (project.clone(), service.clone());
                // A client whose way breaks off sees its connection end.
                tokio::spawn(async move { project.carry(&service, port, client).await });
            }
        });
        Ok(())
    }

    async fn carry(&self, service: &str, port: u16, client: UnixStream) -> Result<(), Error> {
        let exec = Exec { command: shell(RELAY, port), with_input: true, ..Exec::default() };
        let (mut answers, mut input) = self.exec(service, &exec).await?.split();
        let (mut from_client, mut to_client) = client.into_split();
        let asking = async {
            let mut piece = vec![0; PIECE_BYTES];
            while let Ok(read @ 1..) = from_client.read(&mut piece).await {
                let Some(input) = &mut input else { break };
                if input.write_all(piece.get(..read).unwrap_or_default()).await.is_err() || input.flush().await.is_err()
                {
                    break;
                }
            }
        };
        let answering = async {
            while let Ok(Some(piece)) = answers.next().await {
                if to_client.write_all(&piece).await.is_err() {
                    break;
                }
            }
        };
        tokio::select! {
            () = asking => {}
            () = answering => {}
        }
        if let Some(mut input) = input {
            // The command ends when its input does, and the server's session with it.
            let _ = input.shutdown().await;
        }
        Ok(())
    }
}

fn shell(script: &str, port: u16) -> Vec<String> {
    ["bash", "-c", script, "bash", &port.to_string()].map(str::to_owned).to_vec()
}
