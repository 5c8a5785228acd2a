//! The operator's rules for fields, applied to a request before it goes to its target, and to a response before it goes to its client.
//! Not here: how a rule is read, and which fields have none (`config::header_rule`).
//! Invariant: nothing that a request says, or a table, makes a second field of a value (`what_a_table_says_stays_in_its_value`).

use std::fmt::{self, Write};

use http::HeaderValue;

use super::{authority::Authority, domain_route::Admitted, request_log::RequestFacts};
use crate::{
    config::{HeaderOperation, HeaderRule, Template, TemplateField, TemplatePart},
    fields::Fields,
};

/// What templates say of a request. What is not known of one that was refused is empty.
pub(super) struct TemplateValues<'a> {
    facts: &'a RequestFacts,
    host: Option<&'a Authority>,
    tenant: Option<&'a str>,
}

/// Applies `rules` in their order.
pub(super) fn apply(rules: &[HeaderRule], fields: &mut Fields, values: &TemplateValues<'_>) {
    for HeaderRule { name, operation, .. } in rules {
        match operation {
            HeaderOperation::Remove => fields.remove_named(name),
            HeaderOperation::Set(template) => {
                if let Some(value) = values.fill(template) {
                    fields.remove_named(name);
                    fields.push_named(name, &value);
                }
            }
            HeaderOperation::Add(template) => {
                if let Some(value) = values.fill(template) {
                    fields.push_named(name, &value);
                }
            }
        }
    }
}

impl<'a> TemplateValues<'a> {
    pub(super) fn of(facts: &'a RequestFacts, admitted: Option<&'a Admitted>) -> Self {
        let host = admitted.map(|admitted| &admitted.host);
        Self { facts, host, tenant: admitted.map(|admitted| &*admitted.route.tenant) }
    }

    /// Always some: a template's text is a field's value, and so is what [`Visible`] writes.
    fn fill(&self, template: &Template) -> Option<HeaderValue> {
        let parts = match template {
            Template::Fixed(value) => return Some(value.clone()),
            Template::Composed(parts) => parts,
        };
        let mut value = String::new();
        for part in parts {
            match part {
                TemplatePart::Text(text) => value.push_str(text),
                TemplatePart::Field(field) => self.put(*field, &mut Visible(&mut value)).ok()?,
            }
        }
        HeaderValue::try_from(value).ok()
    }

    fn put(&self, field: TemplateField, value: &mut Visible<'_>) -> fmt::Result {
        let facts = self.facts;
        match field {
            TemplateField::Host => self.host.map_or(Ok(()), |host| write!(value, "{host}")),
            TemplateField::ClientAddress => write!(value, "{}", facts.client.to_canonical()),
            TemplateField::TlsVersion => value.write_str(facts.tls.unwrap_or_default()),
            TemplateField::ServerName => {
                facts.server_name.as_ref().map_or(Ok(()), |name| write!(value, "{name}"))
            }
            TemplateField::Tenant => value.write_str(self.tenant.unwrap_or_default()),
            TemplateField::RequestId => write!(value, "{}", facts.id),
        }
    }
}

/// Writes visible ASCII; all else as `%` and its bytes in hexadecimal, as in a URL: a tenant is what a table says.
struct Visible<'a>(&'a mut String);

impl Write for Visible<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte.is_ascii_graphic() {
                self.0.push(char::from(byte));
            } else {
                write!(self.0, "%{byte:02X}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{name::ServerName, telemetry::RequestId};

    fn facts() -> RequestFacts {
        RequestFacts {
            client: "::ffff:192.0.2.9".parse().unwrap(),
            tls: Some("TLSv1.3"),
            server_name: Some(ServerName::parse("shop.example").unwrap()),
            id: RequestId::numbered(0xab),
        }
    }

    /// `headers` after `rules`, a line each.
    fn applied(rules: &[&str], tenant: Option<&str>, headers: &[(&str, &str)]) -> Vec<String> {
        let rules: Vec<_> =
            rules.iter().map(|rule| HeaderRule::try_from((*rule).to_owned()).unwrap()).collect();
        let mut fields = Fields::default();
        for (name, value) in headers {
            let name = http::HeaderName::try_from(*name).unwrap();
            fields.push_named(&name, &HeaderValue::from_str(value).unwrap());
        }
        let (facts, host) = (facts(), Authority::parse(b"shop.example:8443", 443));
        apply(&rules, &mut fields, &TemplateValues { facts: &facts, host: host.as_ref(), tenant });
        fields
            .iter()
            .map(|field| format!("{}: {}", field.name.escape_ascii(), field.value.escape_ascii()))
            .collect()
    }

    #[test]
    fn rules_set_add_and_remove_in_their_order() {
        let there = [("x-a", "1"), ("x-a", "2")];
        for (rules, then) in [
            (&["set X-A: 3"][..], &["x-a: 3"][..]),
            (&["add X-A: 3"], &["x-a: 1", "x-a: 2", "x-a: 3"]),
            (&["remove X-A"], &[]),
            (&["remove X-B"], &["x-a: 1", "x-a: 2"]),
            (&["remove X-A", "add X-A: 3", "add X-A: 4"], &["x-a: 3", "x-a: 4"]),
            (&["add X-A: 3", "set X-A: 4"], &["x-a: 4"]),
        ] {
            assert_eq!(applied(rules, None, &there), then, "{rules:?}");
        }
    }

    #[test]
    fn templates_say_what_is_known_of_the_request() {
        for (value, filled) in [
            ("{host}", "shop.example:8443"),
            ("{client.address}", "192.0.2.9"),
            ("{tls.version}", "TLSv1.3"),
            ("{server_name}", "shop.example"),
            ("{tenant}", "acme"),
            ("{request_id}", "00000000000000ab"),
            ("<{tenant}>; {{{host}}}", "<acme>; {shop.example:8443}"),
        ] {
            let rule = format!("set x: {value}");
            assert_eq!(applied(&[&rule], Some("acme"), &[]), [format!("x: {filled}")], "{value}");
        }
        assert_eq!(applied(&["set x: {tenant}"], None, &[]), ["x: "], "of a request that was refused");
    }

    #[test]
    fn what_a_table_says_stays_in_its_value() {
        for (tenant, filled) in
            [("a\r\nx-b: 1", "a%0D%0Ax-b:%201"), ("b\u{fc}", "b%C3%BC"), ("\u{0}\u{7f}", "%00%7F")]
        {
            assert_eq!(applied(&["set x: {tenant}"], Some(tenant), &[]), [format!("x: {filled}")]);
        }
    }
}
