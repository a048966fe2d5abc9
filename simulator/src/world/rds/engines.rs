//! Database engines: versions, ports, licences, parameter group families.
//! Source: RDS API reference, CreateDBInstance (`Engine`, `Port`, `LicenseModel`).

use crate::fault::Fault;

pub(crate) struct Engine {
    pub(crate) name: &'static str,
    /// What an omitted EngineVersion gives.
    pub(crate) version: &'static str,
    pub(crate) port: i64,
    pub(crate) license: &'static str,
    /// How many parts of the version name the parameter group family.
    family_parts: usize,
}

const fn engine(
    name: &'static str,
    version: &'static str,
    port: i64,
    license: &'static str,
    family_parts: usize,
) -> Engine {
    Engine { name, version, port, license, family_parts }
}

const ENGINES: &[Engine] = &[
    engine("postgres", "16.4", 5432, "postgresql-license", 1),
    engine("mysql", "8.0.39", 3306, "general-public-license", 2),
    engine("mariadb", "10.11.8", 3306, "general-public-license", 2),
    engine("oracle-ee", "19.0.0.0.ru-2024-07.rur-2024-07.r1", 1521, "bring-your-own-license", 1),
    engine("oracle-se2", "19.0.0.0.ru-2024-07.rur-2024-07.r1", 1521, "license-included", 1),
    engine("sqlserver-ee", "15.00.4385.2.v1", 1433, "license-included", 2),
    engine("sqlserver-se", "15.00.4385.2.v1", 1433, "license-included", 2),
    engine("sqlserver-ex", "15.00.4385.2.v1", 1433, "license-included", 2),
    engine("sqlserver-web", "15.00.4385.2.v1", 1433, "license-included", 2),
    engine("db2-se", "11.5.9.0.sb00013700.r1", 50000, "bring-your-own-license", 2),
    engine("aurora-mysql", "8.0.mysql_aurora.3.07.1", 3306, "general-public-license", 2),
    engine("aurora-postgresql", "16.4", 5432, "postgresql-license", 1),
    engine("docdb", "5.0.0", 27017, "na", 2),
    engine("neptune", "1.3.2.1", 8182, "amazon-license", 2),
];

impl Engine {
    pub(crate) fn aurora(&self) -> bool {
        self.name.starts_with("aurora")
    }

    /// Whether its databases live in clusters (Neptune and DocumentDB share RDS's API).
    pub(crate) fn clustered(&self) -> bool {
        self.aurora() || ["docdb", "neptune"].contains(&self.name)
    }

    pub(crate) fn sql_server(&self) -> bool {
        self.name.starts_with("sqlserver")
    }

    /// `postgres16`, `mysql8.0`, `sqlserver-se-15.0`: what a parameter group must be made for.
    pub(crate) fn family(&self, version: &str) -> String {
        let mut parts: Vec<String> =
            version.split('.').take(self.family_parts).map(str::to_owned).collect();
        if self.sql_server() {
            parts[1..].iter_mut().for_each(|p| *p = "0".into());
        }
        // "db2-se-11.5", "oracle-ee-19", "sqlserver-se-15.0" (API reference, CreateDBParameterGroup).
        let dashed = ["db2", "oracle", "sqlserver"].iter().any(|e| self.name.starts_with(e));
        let dash = if dashed { "-" } else { "" };
        format!("{}{dash}{}", self.name, parts.join("."))
    }

    /// The major version as option groups write it: `default:postgres-16`.
    pub(crate) fn option_group(&self, version: &str) -> String {
        let parts = if self.family_parts == 1 { 1 } else { 2 };
        let major: Vec<&str> = version.split('.').take(parts).collect();
        format!("default:{}-{}", self.name, major.join("-"))
    }
}

/// The engine of that name.
pub(crate) fn find(name: &str) -> Result<&'static Engine, Fault> {
    ENGINES.iter().find(|e| e.name == name).ok_or_else(|| {
        Fault::new(400, "InvalidParameterValue", format!("Invalid DB engine: {name}"))
    })
}
