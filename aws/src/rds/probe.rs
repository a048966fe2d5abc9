//! The create that must fail, because it names a DB subnet group that does not exist.

use super::write::send;
use crate::client::Cloud;
use crate::error::cloud_error;
use crate::limits::Class;
use crate::retry::To;
use crate::session::Session;
use ringfence_domain::cloud::CloudError;
use ringfence_domain::finding::Kind;
use ringfence_domain::probe::{CLASS, ENGINE, Place, instance_name};

impl Cloud {
    /// `CreateDBInstance` with a DB subnet group of a name that nobody has; the password is for a database that is not to
    /// come into being. True where it went through; false where one is there already, and nothing was tried.
    ///
    /// # Errors
    /// AWS's refusal, which is what is wanted.
    pub async fn create_in_vain(
        &self,
        session: &Session,
        place: &Place,
        encrypted: bool,
        (subnet_group, password): (&str, &str),
    ) -> Result<bool, CloudError> {
        let (name, region) = (instance_name(encrypted), &place.region);
        // AWS may miss the subnet group before it meets the name.
        if self.resource_id(session, region, Kind::Instance, name).await?.is_some() {
            return Ok(false);
        }
        send!(self, session, region, "rds:CreateDBInstance", |client| {
            client
                .create_db_instance()
                .db_instance_identifier(name)
                .engine(ENGINE)
                .db_instance_class(CLASS)
                .allocated_storage(20)
                .master_username("ringfence")
                .master_user_password(password)
                .storage_encrypted(encrypted)
                .publicly_accessible(false)
                .backup_retention_period(0)
                .db_subnet_group_name(subnet_group)
        })
        .map(|_| true)
    }
}
