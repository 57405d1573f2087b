use std::time::Duration;

use async_trait::async_trait;
use backstay_postgres::{Settings, connect};

use crate::probe::{Ask, Seen};

/// Connects as the application would, and asks.
pub struct DatabaseAsk {
    pub settings: Settings,
    /// Something that must run without an error.
    pub query: Option<String>,
    /// How far a standby may be behind.
    pub lag_max: Option<Duration>,
}

#[async_trait]
impl Ask for DatabaseAsk {
    async fn ask(&self) -> Seen {
        match self.look().await {
            Ok(seen) => seen,
            Err(error) => Seen::Bad(backstay_model::with_causes(&error)),
        }
    }
}

impl DatabaseAsk {
    async fn look(&self) -> Result<Seen, backstay_postgres::Error> {
        let mut session = connect(&self.settings, "health").await?;
        session.execute("begin a look", "begin transaction read only").await?;
        session.execute("ask the probe's question", self.query.as_deref().unwrap_or("select 1")).await?;
        let lag: (Option<f64>,) = session
            .row(
                "read the replication lag",
                "select case when pg_catalog.pg_is_in_recovery() \
                 then extract(epoch from pg_catalog.now() - pg_catalog.pg_last_xact_replay_timestamp())::float8 end",
            )
            .await?;
        session.close().await;
        Ok(match (lag.0, self.lag_max) {
            (Some(lag), Some(limit)) if lag > limit.as_secs_f64() => {
                Seen::Bad(format!("{lag:.0} s behind, more than {} s", limit.as_secs()))
            }
            (Some(lag), _) => Seen::Good(format!("answers, {lag:.0} s behind")),
            (None, _) => Seen::Good("answers".to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use backstay_postgres::Surroundings;
    use backstay_testkit::PrivateCluster;

    use super::*;

    #[tokio::test]
    async fn a_database_is_asked_what_was_configured() {
        let Some(cluster) = PrivateCluster::start() else { return };
        let ask = |database: &str, query: Option<&str>| DatabaseAsk {
            settings: Settings::parse(&cluster.url(database), &Surroundings::default()).unwrap(),
            query: query.map(str::to_owned),
            lag_max: None,
        };
        assert_eq!(ask("postgres", None).ask().await, Seen::Good("answers".to_owned()));
        assert!(
            matches!(ask("postgres", Some("select * from orders")).ask().await, Seen::Bad(words) if words.contains("orders"))
        );
        assert!(
            matches!(ask("postgres", Some("create table t()")).ask().await, Seen::Bad(words) if words.contains("read-only"))
        );
        assert!(matches!(ask("nowhere", None).ask().await, Seen::Bad(_)));
        cluster.stop();
        assert!(matches!(ask("postgres", None).ask().await, Seen::Bad(_)));
    }
}
