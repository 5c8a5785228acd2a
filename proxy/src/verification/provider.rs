//! How records are entered at large DNS providers, chosen by the name servers of a zone. Pure.
//! Not here: how name servers are found (`dns`).

/// A DNS provider, and what is peculiar to its form.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// What it is called.
    pub name: &'static str,
    /// Its own page about it.
    pub page: &'static str,
    /// What its form calls the zone's own name; empty, the field stays empty.
    pub own_name: &'static str,
    servers: Servers,
    hints: &'static [(HintFor, &'static str)],
}

/// How its name servers are told.
#[derive(Debug, PartialEq, Eq)]
enum Servers {
    /// They are below one of these names.
    Below(&'static [&'static str]),
    /// Their second label begins like this.
    SecondLabel(&'static str),
}

/// For which records a hint is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HintFor {
    /// Any.
    All,
    /// Those that lead a name here.
    Traffic,
    /// CNAME records.
    Cname,
    /// CNAME records of the zone's own name.
    OwnCname,
    /// TXT records.
    Txt,
}

/// A record, as far as hints depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HintedRecord<'a> {
    /// `CNAME`, `A`, `AAAA` or `TXT`.
    pub kind: &'a str,
    /// Whether it is of the zone's own name.
    pub is_own_name: bool,
}

impl Provider {
    /// Whose name servers most of `servers` are, if they are one's that is known; in lower case, without a final dot.
    #[must_use]
    pub fn of(servers: &[String]) -> Option<&'static Self> {
        let count = |provider: &Self| servers.iter().filter(|server| provider.servers.have(server)).count();
        // Of two with as many, the first.
        PROVIDERS.iter().rev().max_by_key(|provider| count(provider)).filter(|provider| count(provider) > 0)
    }

    /// What to mind at entering `records`.
    #[must_use]
    pub fn hints(&self, records: &[HintedRecord<'_>]) -> Vec<&'static str> {
        let applies = |hint: HintFor| records.iter().any(|record| hint.is_for(*record));
        self.hints.iter().filter(|(hint, _)| applies(*hint)).map(|(_, text)| *text).collect()
    }
}

impl Servers {
    fn have(&self, server: &str) -> bool {
        match self {
            Self::Below(suffixes) => suffixes.iter().any(|suffix| {
                server.strip_suffix(suffix).is_some_and(|before| before.is_empty() || before.ends_with('.'))
            }),
            Self::SecondLabel(begin) => {
                server.split('.').nth(1).is_some_and(|label| label.starts_with(begin))
            }
        }
    }
}

impl HintFor {
    fn is_for(self, record: HintedRecord<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Traffic => record.kind != "TXT",
            Self::Cname => record.kind == "CNAME",
            Self::OwnCname => record.kind == "CNAME" && record.is_own_name,
            Self::Txt => record.kind == "TXT",
        }
    }
}

const PROVIDERS: &[Provider] = &[
    Provider {
        name: "Cloudflare",
        page: "https://developers.cloudflare.com/dns/manage-dns-records/how-to/create-dns-records/",
        own_name: "@",
        servers: Servers::Below(&["ns.cloudflare.com"]),
        hints: &[
            (
                HintFor::Traffic,
                "Set “Proxy status” to “DNS only” (the grey cloud). While a record is proxied, its name leads to Cloudflare, \
                 and is found here only if Cloudflare passes requests over http on without a redirect.",
            ),
            (
                HintFor::OwnCname,
                "A CNAME record is possible at @ as well: Cloudflare answers with its addresses.",
            ),
        ],
    },
    Provider {
        name: "GoDaddy",
        page: "https://www.godaddy.com/help/manage-dns-records-680",
        own_name: "@",
        servers: Servers::Below(&["domaincontrol.com"]),
        hints: &[
            (HintFor::All, "Enter the short name: GoDaddy adds your domain behind it."),
            (
                HintFor::OwnCname,
                "GoDaddy takes no CNAME record at @. Ask who sent you this page for addresses.",
            ),
        ],
    },
    Provider {
        name: "Namecheap",
        page: "https://www.namecheap.com/support/knowledgebase/article.aspx/434/2237/how-do-i-set-up-host-records-for-a-domain/",
        own_name: "@",
        servers: Servers::Below(&["registrar-servers.com"]),
        hints: &[
            (
                HintFor::All,
                "Enter the short name under “Host”, at “Advanced DNS” of the domain: Namecheap adds your domain behind it.",
            ),
            (HintFor::OwnCname, "At @ choose the type ALIAS in place of CNAME: mail may get lost otherwise."),
        ],
    },
    Provider {
        name: "Squarespace or Google Cloud DNS",
        page: "https://support.squarespace.com/hc/en-us/articles/360002101888",
        own_name: "@",
        servers: Servers::Below(&["squarespacedns.com", "googledomains.com"]),
        hints: &[
            (
                HintFor::All,
                "At Squarespace enter the short name under “Host”, among the custom records of the domain.",
            ),
            (
                HintFor::All,
                "Google Cloud DNS has the same name servers: there leave the name empty in place of @.",
            ),
        ],
    },
    Provider {
        name: "AWS Route 53",
        page: "https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/resource-record-sets-creating.html",
        own_name: "",
        servers: Servers::SecondLabel("awsdns-"),
        hints: &[
            (HintFor::All, "Enter the short name: the console shows the zone's name behind it."),
            (HintFor::Txt, "Put the value of a TXT record into double quotes."),
            (
                HintFor::OwnCname,
                "Route 53 takes no CNAME record at the zone's own name. Ask who sent you this page for addresses.",
            ),
        ],
    },
    Provider {
        name: "IONOS",
        page: "https://www.ionos.com/help/domains/",
        own_name: "@",
        servers: Servers::Below(&["ui-dns.com", "ui-dns.de", "ui-dns.org", "ui-dns.biz"]),
        hints: &[(HintFor::All, "Enter the short name under “Host name”.")],
    },
    Provider {
        name: "OVHcloud",
        page: "https://docs.ovhcloud.com/en/guides/web-cloud/domains/dns-zone-edit",
        own_name: "",
        servers: Servers::Below(&["ovh.net", "ovh.ca", "anycast.me"]),
        hints: &[
            (HintFor::All, "Enter the short name under “Sub-domain”: OVHcloud adds your domain behind it."),
            (
                HintFor::Cname,
                "End the target of a CNAME record with a dot, or OVHcloud adds your domain behind it.",
            ),
        ],
    },
    Provider {
        name: "Hostinger",
        page: "https://hpanel.hostinger.com/domains",
        own_name: "@",
        servers: Servers::Below(&["dns-parking.com"]),
        hints: &[(HintFor::All, "Enter the short name under “Name”, at “DNS / Nameservers” of the domain.")],
    },
    Provider {
        name: "Gandi",
        page: "https://docs.gandi.net/en/domain_names/common_operations/dns_records.html",
        own_name: "@",
        servers: Servers::Below(&["gandi.net"]),
        hints: &[
            (HintFor::All, "Enter the short name: Gandi adds your domain behind it."),
            (
                HintFor::Cname,
                "End the target of a CNAME record with a dot, or Gandi adds your domain behind it.",
            ),
            (HintFor::OwnCname, "At @ choose the type ALIAS in place of CNAME."),
        ],
    },
    Provider {
        name: "DigitalOcean",
        page: "https://docs.digitalocean.com/products/networking/dns/how-to/manage-records/",
        own_name: "@",
        servers: Servers::Below(&["digitalocean.com"]),
        hints: &[(HintFor::All, "Enter the short name under “Hostname”, at “Networking”, “Domains”.")],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn of(servers: &[&str]) -> Option<&'static str> {
        let servers: Vec<_> = servers.iter().map(|server| (*server).to_owned()).collect();
        Provider::of(&servers).map(|provider| provider.name)
    }

    #[test]
    fn a_provider_is_told_by_its_name_servers() {
        for (servers, name) in [
            (&["ada.ns.cloudflare.com", "bob.ns.cloudflare.com"][..], Some("Cloudflare")),
            (&["ns59.domaincontrol.com", "ns60.domaincontrol.com"], Some("GoDaddy")),
            (&["dns1.registrar-servers.com"], Some("Namecheap")),
            (&["nsd1.squarespacedns.com"], Some("Squarespace or Google Cloud DNS")),
            (&["ns-cloud-a1.googledomains.com"], Some("Squarespace or Google Cloud DNS")),
            (&["ns-2048.awsdns-64.com", "ns-1.awsdns-00.co.uk"], Some("AWS Route 53")),
            (&["ns1038.ui-dns.com", "ns1055.ui-dns.biz", "ns1106.ui-dns.de"], Some("IONOS")),
            (&["dns200.anycast.me", "ns200.anycast.me"], Some("OVHcloud")),
            (&["dns10.ovh.net"], Some("OVHcloud")),
            (&["lunar.dns-parking.com"], Some("Hostinger")),
            (&["ns-12-a.gandi.net", "a.dns.gandi.net"], Some("Gandi")),
            (&["ns1.digitalocean.com"], Some("DigitalOcean")),
            // Of two providers, whose most servers are.
            (&["ns1.digitalocean.com", "ada.ns.cloudflare.com", "bob.ns.cloudflare.com"], Some("Cloudflare")),
            (&["dns1.p01.nsone.net", "ns01.squarespacedns.com"], Some("Squarespace or Google Cloud DNS")),
            (&["ns1.example.net"], None),
            (&[], None),
            // Others' names that look like theirs.
            (&["ns.cloudflare.com.evil.example", "notgandi.net", "evilovh.net", "awsdns-1.com"], None),
        ] {
            assert_eq!(of(servers), name, "{servers:?}");
        }
    }

    #[test]
    fn hints_are_those_of_the_records() {
        let cloudflare = Provider::of(&["ada.ns.cloudflare.com".to_owned()]).unwrap();
        let record = |kind, is_own_name| HintedRecord { kind, is_own_name };
        let said = |records: &[HintedRecord<'_>]| cloudflare.hints(records).concat();
        assert!(said(&[record("CNAME", false)]).contains("DNS only"));
        assert!(said(&[record("A", true)]).contains("DNS only"));
        assert!(said(&[record("CNAME", true)]).contains("CNAME record is possible at @"));
        assert_eq!(said(&[record("TXT", false)]), "");
        let aws = Provider::of(&["ns-1.awsdns-00.co.uk".to_owned()]).unwrap();
        let hints = aws.hints(&[record("TXT", false), record("CNAME", false)]).concat();
        assert!(hints.contains("double quotes") && !hints.contains("takes no CNAME"), "{hints}");
    }

    #[test]
    fn each_has_a_page_over_https_and_something_to_say() {
        assert_eq!(PROVIDERS.len(), 10);
        for provider in PROVIDERS {
            assert!(provider.page.starts_with("https://") && !provider.hints.is_empty(), "{}", provider.name);
        }
    }
}
