//! Who may take leases: agents, the share of the common budgets that each has, and join tokens.

use super::Result;
use super::sql::{Postgres, Sqlite, for_both};
use async_trait::async_trait;
use ringfence_domain::audit::Event;
use ringfence_domain::time::{Span, Time};
use sqlx::Row as _;

/// One agent thread, as it was last heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its name: `NAME/THREAD`.
    pub name: String,
    /// Differs from process to process.
    pub instance: String,
    /// When this process joined.
    pub joined_at: Time,
    /// When it was last heard of.
    pub seen_at: Time,
    /// When it is taken for dead.
    pub expires_at: Time,
    /// Its share of the common budgets, in millionths.
    pub share: i64,
    /// Whether it is asked to take no more work.
    pub draining: bool,
    /// What its limits say, as JSON.
    pub usage: String,
}

/// What an agent is told when it is heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentSeen {
    /// Another process has this name, and was heard of at that time.
    Taken(Time),
    /// It may work, with this share in millionths.
    Welcome {
        /// Its share of the common budgets, in millionths.
        share: i64,
        /// Whether it is to take no more work.
        draining: bool,
    },
}

/// A join token; the token itself is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its SHA-256.
    pub hash: String,
    /// What people call it.
    pub name: String,
    /// When it was made.
    pub created_at: Time,
}

/// Agents and their tokens.
#[async_trait]
pub trait Agents: Send + Sync {
    /// Hears of an agent, which uses `using` millionths of the common budgets, and deals it its share:
    /// an equal one, as far as the others have given theirs back. Shares of agents that are taken for
    /// dead are dealt anew. The sum is never more than the whole.
    async fn agent_seen(
        &self,
        name: &str,
        instance: &str,
        using: i64,
        usage: &str,
        ttl: Span,
    ) -> Result<AgentSeen>;

    /// All agents that are not taken for dead, by name.
    async fn agents(&self) -> Result<Vec<Agent>>;

    /// How many accounts each holds, by the lease's owner.
    async fn leases_held(&self) -> Result<Vec<(String, i64)>>;

    /// Asks an agent (all its threads) to take no more work, or to take some again. How many heard it.
    async fn drain_agent(&self, name: &str, draining: bool, event: &Event) -> Result<u64>;

    /// An agent leaves: its leases and its share are free at once.
    async fn agent_left(&self, name: &str, instance: &str) -> Result<()>;

    /// An agent of that name is known to be dead, whatever its instance: the leases and shares of its
    /// threads are free at once.
    async fn agent_gone(&self, name: &str) -> Result<()>;

    /// Keeps a token's hash. The same one twice is one.
    async fn put_token(&self, token: &Token, event: Option<&Event>) -> Result<()>;

    /// Makes this the one token of that name, or leaves it none.
    async fn set_token(&self, name: &str, token: Option<&Token>) -> Result<()>;

    /// All tokens.
    async fn tokens(&self) -> Result<Vec<Token>>;

    /// Whether a token of that hash is known.
    async fn token_known(&self, hash: &str) -> Result<bool>;

    /// Forgets the tokens of that name. How many there were.
    async fn revoke_tokens(&self, name: &str, event: &Event) -> Result<u64>;
}

/// The whole of the common budgets, in millionths.
const WHOLE: i64 = 1_000_000;

/// The share that an agent gets: an equal one, but no more than what is free. An agent that is new, or
/// wants more, gets it when the others have been told theirs and use no more.
fn deal(others: &[i64]) -> i64 {
    let equal = WHOLE / (i64::try_from(others.len()).unwrap_or(i64::MAX - 1) + 1);
    equal.min(WHOLE - others.iter().sum::<i64>()).max(0)
}

macro_rules! agents {
    ($name:ident, $row:ty, $tx:ty, $now:literal, $open:literal, $texts:literal, $close:literal) => {
        #[async_trait]
        impl Agents for $name {
            async fn agent_seen(&self, name: &str, instance: &str, using: i64, usage: &str, ttl: Span) -> Result<AgentSeen> {
                let mut tx = self.begin().await?;
                // One at a time deals: the row's lock, which in SQLite the transaction has already.
                sqlx::query("INSERT INTO meta (key, value) VALUES ('agents', '') ON CONFLICT (key) DO UPDATE SET value = ''")
                    .execute(&mut *tx).await?;
                sqlx::query(concat!("DELETE FROM agent WHERE expires_at <= ", $now)).execute(&mut *tx).await?;
                let rows = sqlx::query("SELECT name, instance, share, draining, seen_at FROM agent").fetch_all(&mut *tx).await?;
                let (mut others, mut draining, mut known) = (Vec::new(), false, None);
                for row in &rows {
                    if row.try_get::<String, _>(0)? != name {
                        others.push(row.try_get::<i64, _>(2)?);
                    } else if row.try_get::<String, _>(1)? != instance {
                        return Ok(AgentSeen::Taken(Time(row.try_get(4)?)));
                    } else {
                        draining = row.try_get::<i64, _>(3)? != 0;
                        known = Some(row.try_get::<i64, _>(2)?);
                    }
                }
                let share = deal(&others);
                // What it may still be using until this answer arrives stays taken.
                let taken = share.max(using.clamp(0, known.unwrap_or(0)));
                sqlx::query(concat!("INSERT INTO agent (name, instance, joined_at, seen_at, expires_at, share, draining, usage)
                    VALUES ($1, $2, ", $now, ", ", $now, ", ", $now, " + $3, $4, 0, $5)
                    ON CONFLICT (name) DO UPDATE SET seen_at = excluded.seen_at, expires_at = excluded.expires_at,
                        share = excluded.share, usage = excluded.usage"))
                    .bind(name).bind(instance).bind(ttl.0).bind(taken).bind(usage).execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(AgentSeen::Welcome { share, draining })
            }

            async fn agents(&self) -> Result<Vec<Agent>> {
                let rows = sqlx::query(concat!("SELECT name, instance, joined_at, seen_at, expires_at, share, draining, usage
                    FROM agent WHERE expires_at > ", $now, " ORDER BY name")).fetch_all(&self.reader).await?;
                let agent = |r: &$row| -> Result<Agent> {
                    Ok(Agent {
                        name: r.try_get(0)?,
                        instance: r.try_get(1)?,
                        joined_at: Time(r.try_get(2)?),
                        seen_at: Time(r.try_get(3)?),
                        expires_at: Time(r.try_get(4)?),
                        share: r.try_get(5)?,
                        draining: r.try_get::<i64, _>(6)? != 0,
                        usage: r.try_get(7)?,
                    })
                };
                rows.iter().map(agent).collect()
            }

            async fn leases_held(&self) -> Result<Vec<(String, i64)>> {
                let rows = sqlx::query(concat!("SELECT owner, COUNT(*) FROM lease
                    WHERE name LIKE 'account/%' AND expires_at > ", $now, " GROUP BY owner")).fetch_all(&self.reader).await?;
                rows.iter().map(|r| Ok((r.try_get(0)?, r.try_get(1)?))).collect()
            }

            async fn drain_agent(&self, name: &str, draining: bool, event: &Event) -> Result<u64> {
                let mut tx = self.begin().await?;
                let done = sqlx::query(concat!("UPDATE agent SET draining = $3 WHERE (name = $1 OR substr(name, 1, length($2)) = $2) AND expires_at > ", $now))
                    .bind(name).bind(format!("{name}/")).bind(i64::from(draining)).execute(&mut *tx).await?;
                if done.rows_affected() > 0 {
                    Self::log(&mut tx, &[event]).await?;
                }
                tx.commit().await?;
                Ok(done.rows_affected())
            }

            async fn agent_left(&self, name: &str, instance: &str) -> Result<()> {
                let mut tx = self.begin().await?;
                sqlx::query("DELETE FROM agent WHERE name = $1 AND instance = $2")
                    .bind(name).bind(instance).execute(&mut *tx).await?;
                sqlx::query("UPDATE lease SET expires_at = 0 WHERE owner = $1")
                    .bind(format!("{name}#{instance}")).execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn agent_gone(&self, name: &str) -> Result<()> {
                let mut tx = self.begin().await?;
                let threads = format!("{name}/");
                sqlx::query("DELETE FROM agent WHERE substr(name, 1, length($1)) = $1").bind(&threads).execute(&mut *tx).await?;
                sqlx::query("UPDATE lease SET expires_at = 0 WHERE substr(owner, 1, length($1)) = $1 AND name LIKE 'account/%'")
                    .bind(&threads).execute(&mut *tx).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn put_token(&self, token: &Token, event: Option<&Event>) -> Result<()> {
                let mut tx = self.begin().await?;
                sqlx::query("INSERT INTO join_token (hash, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (hash) DO NOTHING")
                    .bind(&token.hash).bind(&token.name).bind(token.created_at.0).execute(&mut *tx).await?;
                Self::log(&mut tx, event.as_slice()).await?;
                tx.commit().await?;
                Ok(())
            }

            async fn set_token(&self, name: &str, token: Option<&Token>) -> Result<()> {
                let mut tx = self.begin().await?;
                let hash = token.map_or("", |t| t.hash.as_str());
                sqlx::query("DELETE FROM join_token WHERE name = $1 AND hash <> $2").bind(name).bind(hash).execute(&mut *tx).await?;
                if let Some(token) = token {
                    sqlx::query("INSERT INTO join_token (hash, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (hash) DO UPDATE SET name = excluded.name")
                        .bind(hash).bind(name).bind(token.created_at.0).execute(&mut *tx).await?;
                }
                tx.commit().await?;
                Ok(())
            }

            async fn tokens(&self) -> Result<Vec<Token>> {
                let rows = sqlx::query("SELECT hash, name, created_at FROM join_token ORDER BY created_at, name").fetch_all(&self.reader).await?;
                rows.iter().map(|r| Ok(Token { hash: r.try_get(0)?, name: r.try_get(1)?, created_at: Time(r.try_get(2)?) })).collect()
            }

            async fn token_known(&self, hash: &str) -> Result<bool> {
                let row = sqlx::query("SELECT 1 FROM join_token WHERE hash = $1").bind(hash).fetch_optional(&self.reader).await?;
                Ok(row.is_some())
            }

            async fn revoke_tokens(&self, name: &str, event: &Event) -> Result<u64> {
                let mut tx = self.begin().await?;
                let done = sqlx::query("DELETE FROM join_token WHERE name = $1").bind(name).execute(&mut *tx).await?;
                if done.rows_affected() > 0 {
                    Self::log(&mut tx, &[event]).await?;
                }
                tx.commit().await?;
                Ok(done.rows_affected())
            }
        }
    };
}

for_both!(agents);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_never_sum_to_more_than_the_whole() {
        assert_eq!(deal(&[]), WHOLE);
        assert_eq!(deal(&[WHOLE]), 0, "the first has not given anything back yet");
        assert_eq!(deal(&[WHOLE / 2]), WHOLE / 2);
        assert_eq!(deal(&[WHOLE / 3, WHOLE / 3]), WHOLE / 3);
        assert_eq!(deal(&[WHOLE, 0]), 0);
        // Whatever order they come in, the sum stays within the whole, and soon all have the same.
        let mut shares = [0_i64; 5];
        for round in 0..40 {
            let me = round * 7 % 5;
            let others: Vec<i64> = (0..5).filter(|i| *i != me).map(|i| shares[i]).collect();
            shares[me] = deal(&others);
            assert!(shares.iter().sum::<i64>() <= WHOLE, "{shares:?}");
        }
        assert_eq!(shares, [WHOLE / 5; 5]);
    }
}
