//! What one policy denies and another one does not: said before one takes the place of the other.

use super::coverage::{Covered, coverage};
use serde_json::Value;

/// What changes where the later policy takes the place of the earlier one, for people; empty if nothing does. Both hold denials
/// alone, so nothing is given: a statement more denies more, one less denies less, whatever else is attached.
///
/// # Errors
/// One of them is not understood.
pub fn changes(earlier: &str, later: &str) -> Result<Vec<String>, String> {
    let (old, new) = (statements(earlier)?, statements(later)?);
    let mut said = Vec::new();
    let not_in = |some: &[(String, Value)], others: &[(String, Value)]| -> Vec<String> {
        let lacks = |s: &&(String, Value)| !others.iter().any(|o| o.1 == s.1);
        some.iter().filter(lacks).map(|(name, _)| name.clone()).collect()
    };
    let (gone, come) = (not_in(&old, &new), not_in(&new, &old));
    for name in &come {
        let how = if gone.contains(name) { "denies otherwise than before" } else { "denies more" };
        said.push(format!("{name}: {how}"));
    }
    let less = gone.iter().filter(|name| !come.contains(name));
    said.extend(less.map(|name| format!("{name}: is not denied any more")));
    let ways = coverage(earlier)?.into_iter().zip(coverage(later)?);
    said.extend(ways.flat_map(|(old, new)| differs(&old, &new)));
    Ok(said)
}

fn differs(old: &Covered, new: &Covered) -> Vec<String> {
    let word = |said: &str| said.split([':', ' ']).next().unwrap_or_default().to_owned();
    let one = |what: &str, old: &str, new: &str| {
        (word(old) != word(new)).then(|| format!("{what}: {old} before, {new} then"))
    };
    let plain = one(&format!("{}, unencrypted", old.path), &old.unencrypted, &new.unencrypted);
    let encrypted = one(&format!("{}, encrypted", old.path), &old.encrypted, &new.encrypted);
    plain.into_iter().chain(encrypted).collect()
}

/// The statements with what people call them.
fn statements(document: &str) -> Result<Vec<(String, Value)>, String> {
    let read: Value = serde_json::from_str(document).map_err(|e| e.to_string())?;
    let list = match &read["Statement"] {
        Value::Array(list) => list.clone(),
        one => vec![one.clone()],
    };
    let named = |(n, statement): (usize, Value)| {
        let sid = statement["Sid"].as_str().map(str::to_owned);
        (sid.unwrap_or_else(|| format!("statement {}", n + 1)), statement)
    };
    Ok(list.into_iter().enumerate().map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scp::{Parameters, RDS_ENCRYPTION, rds_encryption};

    #[test]
    fn what_a_version_denies_more_or_less_is_said() {
        assert_eq!(changes(RDS_ENCRYPTION, RDS_ENCRYPTION), Ok(Vec::new()));
        let stops = r#"{"Version":"2012-10-17","Statement":[{"Sid":"NoStop","Effect":"Deny","Action":"rds:StopDBInstance","Resource":"*"}]}"#;
        let said = changes(stops, RDS_ENCRYPTION).unwrap();
        assert!(said.contains(&"DenyUnencryptedInstance: denies more".to_owned()), "{said:?}");
        assert!(said.contains(&"NoStop: is not denied any more".to_owned()), "{said:?}");
        let way =
            "CreateDBInstance, unencrypted: allowed before, denied by DenyUnencryptedInstance then";
        assert!(said.contains(&way.to_owned()), "{said:?}");
        let back = changes(RDS_ENCRYPTION, stops).unwrap();
        assert!(
            back.iter().any(|l| l.starts_with("CreateDBCluster, unencrypted: denied by")),
            "{back:?}"
        );
        let exempt =
            Parameters { exempt_engines: vec!["postgres".into()], ..Parameters::default() };
        let exempt = rds_encryption(&exempt, &std::collections::BTreeSet::new()).unwrap();
        let said = changes(RDS_ENCRYPTION, &exempt).unwrap();
        assert!(said[0].ends_with("denies otherwise than before"), "{said:?}");
        assert!(
            said.iter().any(|l| l.starts_with("CreateDBInstance, unencrypted: denied by")
                && l.ends_with("allowed then")),
            "{said:?}"
        );
        assert!(changes("{", stops).is_err());
    }
}
