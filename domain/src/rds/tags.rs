//! Tags that say something to us, or that we say something with.

/// The tag key that marks what a remediation made; its value is the remediation's id.
pub const TAG: &str = "ringfence:remediation";

/// The tag key by which an owner says when work on a database may begin.
pub const WINDOW_TAG: &str = "ringfence:window";

/// The tag key by which an owner says that what runs by itself in a copy is known; its value is
/// `acknowledged`.
pub const JOBS_TAG: &str = "ringfence:jobs";

/// What keeps a database in line with a text of its own, by its tags: CloudFormation tags what it makes;
/// of Terraform people say so.
pub fn managed_by<'a>(tags: impl Iterator<Item = (&'a str, &'a str)>) -> Option<String> {
    let mut found = None;
    for (key, value) in tags {
        if key == "aws:cloudformation:stack-name" {
            return Some(format!("the CloudFormation stack {value}"));
        }
        let says = |text: &str| text.to_ascii_lowercase().contains("terraform");
        if says(key) || says(value) {
            found.get_or_insert(format!("Terraform (tag {key}={value})"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_tell_what_manages_a_database() {
        for (tags, want) in [
            (&[("team", "a")][..], None),
            (&[("ManagedBy", "Terraform")], Some("Terraform (tag ManagedBy=Terraform)")),
            (&[("terraform-module", "db")], Some("Terraform (tag terraform-module=db)")),
            (
                &[("managed-by", "terraform"), ("aws:cloudformation:stack-name", "orders")],
                Some("the CloudFormation stack orders"),
            ),
        ] {
            assert_eq!(managed_by(tags.iter().copied()).as_deref(), want, "{tags:?}");
        }
    }
}
