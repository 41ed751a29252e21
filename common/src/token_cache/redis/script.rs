//! A Lua script by its digest, sent whole where the server does not know it (yet, or any more).

use redis::aio::ConnectionLike;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisResult, ServerErrorKind};

#[derive(Debug)]
pub(super) struct Script {
    code: String,
    digest: String,
}

impl Script {
    pub(super) fn new(parts: &[&str]) -> Self {
        let code = parts.concat();
        let digest = redis::Script::new(&code).get_hash().to_owned();
        Self { code, digest }
    }

    /// Runs it. EVAL also loads it, so there is no moment at which another client's SCRIPT FLUSH makes this fail.
    pub(super) async fn run<T: FromRedisValue>(
        &self,
        connection: &mut impl ConnectionLike,
        keys: &[&str],
        args: &[&[u8]],
    ) -> RedisResult<T> {
        match command("EVALSHA", &self.digest, keys, args).query_async(connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                command("EVAL", &self.code, keys, args).query_async(connection).await
            }
            answer => answer,
        }
    }
}

fn command(name: &str, script: &str, keys: &[&str], args: &[&[u8]]) -> Cmd {
    let bytes: usize =
        keys.iter().map(|key| key.len()).sum::<usize>() + args.iter().map(|arg| arg.len()).sum::<usize>();
    let mut command = Cmd::with_capacity(3 + keys.len() + args.len(), script.len() + bytes + 16);
    command.arg(name).arg(script).arg(keys.len()).arg(keys).arg(args);
    command
}
