//! What `cargo xtask setup` installs: packages of Debian, and environments of Python.

use std::path::Path;

/// A package of Debian.
pub(super) struct Package {
    pub(super) name: &'static str,
    /// A program on the PATH, or a file: there when the package is.
    pub(super) shows: &'static str,
    pub(super) why: &'static str,
    pub(super) group: Group,
    /// A service that its installation starts, and that nothing here needs.
    pub(super) service: Option<&'static str>,
}

/// An environment of Python.
pub(super) struct Environment {
    pub(super) group: Group,
    pub(super) folder: &'static str,
    pub(super) requirements: &'static str,
    pub(super) what: &'static str,
}

/// What something is needed for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Group {
    Tests,
    /// The servers around Gatehouse in end-to-end cases.
    Origins,
    OriginsAndBenches,
    /// What judges `infra`.
    Templates,
    /// For environments of Python.
    Python,
    Toolchain,
    Packaging,
    Image,
    Aws,
    /// Of both.
    Debian,
    Benches,
    BenchesAndConformance,
    Conformance,
}

impl Package {
    pub(super) const fn new(
        group: Group,
        name: &'static str,
        shows: &'static str,
        why: &'static str,
    ) -> Self {
        Self { name, shows, why, group, service: None }
    }

    const fn with_service(mut self, service: &'static str) -> Self {
        self.service = Some(service);
        self
    }

    pub(super) fn is_there(&self, on_path: impl Fn(&str) -> bool) -> bool {
        if self.shows.starts_with('/') { Path::new(self.shows).exists() } else { on_path(self.shows) }
    }
}

pub(super) const PACKAGES: &[Package] = &[
    Package::new(
        Group::Tests,
        "haproxy",
        "haproxy",
        "a load balancer that says who its clients are; a peer of the benches",
    )
    .with_service("haproxy"),
    Package::new(Group::Tests, "pebble", "pebble", "Let's Encrypt's test CA and the DNS it validates by"),
    Package::new(Group::Tests, "curl", "curl", "the client of the end-to-end cases"),
    Package::new(Group::Tests, "openssl", "openssl", "a second TLS client, for alerts and old versions"),
    Package::new(Group::Tests, "caddy", "caddy", "the server that Gatehouse replaces, beside it")
        .with_service("caddy"),
    Package::new(Group::Tests, "iproute2", "ip", "namespaces, veth pairs and socket listings"),
    Package::new(Group::Tests, "nftables", "nft", "where new flows go, in the simulation of a fleet"),
    Package::new(Group::Tests, "ethtool", "ethtool", "checksum offload, which XDP must not meet on veth"),
    Package::new(Group::Tests, "prometheus", "promtool", "checks the metrics' format")
        .with_service("prometheus"),
    Package::new(Group::Tests, "bpftool", "bpftool", "shows what is attached and pinned"),
    Package::new(Group::Toolchain, "rustc-web", "/usr/share/doc/rustc-web", "compiles the XDP program"),
    Package::new(
        Group::Toolchain,
        "rust-web-src",
        "/usr/share/doc/rust-web-src",
        "its core library's sources",
    ),
    Package::new(Group::Toolchain, "llvm-22-dev", LLVM_CONFIG, "what bpf-linker is built on"),
    Package::new(Group::Toolchain, "libpolly-22-dev", LLVM_POLLY, "likewise"),
    Package::new(Group::Toolchain, "zlib1g-dev", "/usr/include/zlib.h", "likewise"),
    Package::new(Group::Toolchain, "libzstd-dev", "/usr/include/zstd.h", "likewise"),
    Package::new(Group::Toolchain, "libxml2-dev", "/usr/include/libxml2/libxml/parser.h", "likewise"),
    Package::new(Group::Toolchain, "g++", "g++", "its linking needs libstdc++"),
    Package::new(Group::Packaging, "dpkg-dev", "dpkg-shlibdeps", "finds what the binary depends on"),
    Package::new(Group::Packaging, "lintian", "lintian", "knows what Debian asks of a package"),
    Package::new(
        Group::Debian,
        "mmdebstrap",
        "mmdebstrap",
        "makes the Debian to try the package in, and the disk's",
    ),
    Package::new(Group::Image, "packer", "packer", "bakes the image"),
    Package::new(Group::Image, "openssh-client", "ssh-keygen", "the key that Packer provisions with"),
    Package::new(Group::Image, "shellcheck", "shellcheck", "reads the image's scripts"),
    Package::new(Group::Image, "fdisk", "sfdisk", "partitions the base disk"),
    Package::new(Group::Image, "dosfstools", "mkfs.vfat", "its EFI partition"),
    Package::new(Group::Image, "mtools", "mcopy", "likewise"),
    Package::new(Group::Image, "grub2-common", "grub-mkimage", "its boot loader"),
    Package::new(Group::Image, "grub-pc-bin", "/usr/lib/grub/i386-pc", "likewise, for BIOS"),
    Package::new(Group::Image, "grub-efi-amd64-bin", "/usr/lib/grub/x86_64-efi", "likewise, for UEFI"),
    Package::new(Group::Image, "qemu-utils", "qemu-img", "compresses disks"),
    Package::new(Group::Image, "qemu-system-x86", "qemu-system-x86_64", "boots them"),
    Package::new(Group::Image, "debsecan", "debsecan", "knows the vulnerabilities of Debian's packages"),
    Package::new(Group::Aws, "awscli", "aws", "publishes the AMI, and looks at the rehearsed one"),
    Package::new(
        Group::Python,
        "python3-venv",
        "/usr/share/doc/python3-venv",
        "for Python's servers, for moto, the rehearsal's AWS, and for tools that judge",
    ),
    Package::new(Group::Origins, "apache2-bin", "apache2", "an origin of the end-to-end cases"),
    Package::new(Group::Origins, "lighttpd", "lighttpd", "likewise").with_service("lighttpd"),
    Package::new(Group::Origins, "nodejs", "node", "likewise; drives the browser"),
    Package::new(Group::Origins, "npm", "npm", "installs what drives the browser"),
    Package::new(Group::Origins, "chromium", "/usr/bin/chromium", "looks at the pages of the console"),
    Package::new(
        Group::OriginsAndBenches,
        "nginx-light",
        "nginx",
        "likewise, and the peer that is measured beside Gatehouse",
    )
    .with_service("nginx"),
    Package::new(Group::Benches, "wrk", "wrk", "makes the load"),
    Package::new(Group::Benches, "valgrind", "valgrind", "counts instructions"),
    Package::new(
        Group::BenchesAndConformance,
        "nghttp2-client",
        "h2load",
        "makes load at a given rate; nghttp's client",
    ),
    Package::new(Group::Conformance, "varnish", "varnishtest", "plays scripted clients and servers")
        .with_service("varnish"),
    Package::new(Group::Conformance, "testssl.sh", "testssl", "scans TLS"),
    Package::new(Group::Conformance, "bsdextrautils", "hexdump", "testssl needs it"),
    Package::new(Group::Conformance, "slowhttptest", "slowhttptest", "makes slow clients"),
];
pub(super) const ARM64: &[Package] = &[
    Package::new(Group::Packaging, "rustc-web", "/usr/share/doc/rustc-web", "compiles for it"),
    Package::new(Group::Packaging, "libstd-rust-web-dev:arm64", ARM64_LIBRARY, "its standard library"),
    Package::new(Group::Packaging, "gcc-aarch64-linux-gnu", "aarch64-linux-gnu-gcc", "compiles C, and links"),
    Package::new(
        Group::Packaging,
        "libc6-dev-arm64-cross",
        "/usr/aarch64-linux-gnu/include/sys/types.h",
        "the C library it links",
    ),
    Package::new(Group::Packaging, "qemu-user", "qemu-aarch64", "starts what was built"),
];
pub(super) const ARM64_LIBRARY: &str = "/usr/lib/rustlib/aarch64-unknown-linux-gnu";
pub(super) const LLVM: &str = "/usr/lib/llvm-22";
pub(super) const LLVM_CONFIG: &str = "/usr/lib/llvm-22/bin/llvm-config";
pub(super) const LLVM_POLLY: &str = "/usr/lib/llvm-22/lib/libPolly.a";
/// Paths are relative to the workspace; `testbed` starts programs from there.
pub(super) const PYTHON: [Environment; 5] = [
    Environment {
        group: Group::Origins,
        folder: "target/moto",
        requirements: "packer/rehearsal/requirements.txt",
        what: "moto             stands for AWS KMS and CloudFormation",
    },
    Environment {
        group: Group::Origins,
        folder: "target/origins",
        requirements: "testbed/origins/requirements.txt",
        what: "python origins   gunicorn, uvicorn, tornado, waitress, grpcio",
    },
    Environment {
        group: Group::Origins,
        folder: "target/schemathesis",
        requirements: "testbed/api/requirements.txt",
        what: "schemathesis     asks the API what its description permits; openapi-spec-validator reads that",
    },
    Environment {
        group: Group::Templates,
        folder: "target/templates",
        requirements: "infra/check/requirements.txt",
        what: "template checks  cfn-lint, policy_sentry",
    },
    Environment {
        group: Group::Conformance,
        folder: "target/conformance",
        requirements: "testbed/conformance/requirements.txt",
        what: "python tools     sslyze, websockets, h2, wsproto",
    },
];
