//! A cache of logins: sessions that end by themselves, are prolonged by use, and end at a log-out.
//!
//!     cargo run --example login_cache

use std::time::Duration;

use ferrokit::{Env, Ferrokit, Result, SetOptions, Ttl};

/// Who is logged in, by token.
struct Logins {
    kv: Ferrokit,
    lifetime: Duration,
}

impl Logins {
    fn key(token: &str) -> String {
        format!("login:{token}")
    }

    /// Logs a user in; whether the token was free.
    async fn log_in(&self, token: &str, user: &str) -> Result<bool> {
        let options = SetOptions::new().if_absent().expire_in(self.lifetime);
        Ok(self.kv.set_with(Self::key(token), user, options).await?.is_set)
    }

    /// The user of a token, whose login lives on.
    async fn user(&self, token: &str) -> Result<Option<String>> {
        let key = Self::key(token);
        let Some(user) = self.kv.get(&key).await? else { return Ok(None) };
        self.kv.expire(&key, self.lifetime).await?;
        Ok(Some(String::from_utf8_lossy(&user).into_owned()))
    }

    async fn log_out(&self, token: &str) -> Result<bool> {
        self.kv.del(Self::key(token)).await
    }
}

pub(crate) async fn run(url: &str) -> Result<()> {
    let kv = ferrokit::open(url).await?;
    let logins = Logins { kv: kv.clone(), lifetime: Duration::from_secs(1800) };
    assert!(logins.log_in("t1", "ada").await?);
    assert!(!logins.log_in("t1", "eve").await?);
    assert_eq!(logins.user("t1").await?.as_deref(), Some("ada"));
    println!("t1 is ada's, and stays so for {:?}", kv.ttl("login:t1").await?);
    assert!(logins.log_out("t1").await?);
    assert_eq!(logins.user("t1").await?, None);

    let short = Logins { kv: kv.clone(), lifetime: Duration::from_millis(20) };
    short.log_in("t2", "bob").await?;
    Env::system().timer.sleep(Duration::from_millis(40)).await;
    assert_eq!(short.user("t2").await?, None);
    assert_eq!(kv.ttl("login:t2").await?, Ttl::Absent);
    println!("t2 was bob's for 20 ms");
    // A task of the application's own does this now and then: it frees what nobody asks for.
    kv.collect_expired(1000).await?;
    kv.close().await
}

fn main() -> Result<()> {
    ferrokit::block_on(run("memory:"))
}
