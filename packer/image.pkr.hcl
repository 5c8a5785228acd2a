# The appliance: one list of provisioning steps, for a QEMU disk and for an AMI.

packer {
  required_version = ">= 1.6.6"
}

variable "package" {
  type        = string
  default     = "target/package/gatehouse_0.1.0_amd64.deb"
  description = "The Debian package that is installed."
}

variable "version" {
  type        = string
  default     = "0.1.0"
  description = "In the image's name and tags."
}

variable "architecture" {
  type        = string
  default     = "amd64"
  description = "As Debian names it: amd64 or arm64."
}

variable "keep_ssh" {
  type        = string
  default     = "no"
  description = "If `yes`, the SSH daemon stays in the image."
}

variable "ssm_agent_url" {
  type        = string
  default     = ""
  description = "Where the Debian package of Amazon's SSM agent is fetched; if empty, the image has none, and no way in."
}

variable "ssm_agent_sha256" {
  type        = string
  default     = ""
  description = "Its checksum."
}

# QEMU

variable "base" {
  type        = string
  default     = "target/image/base.qcow2"
  description = "The disk to start from; `cargo xtask image base` makes it."
}

variable "output" {
  type        = string
  default     = "target/image/baked"
  description = "A folder that is not there yet, for the baked disk."
}

variable "ssh_key" {
  type        = string
  default     = "target/image/id"
  description = "Private key of the user that provisions the disk; its public half is in the seed."
}

variable "seed" {
  type        = string
  default     = "target/image/seed"
  description = "Folder with the user-data and meta-data of the provisioning boot."
}

variable "accelerator" {
  type        = string
  default     = "tcg"
  description = "`kvm` where the machine has it."
}

# AWS. Credentials come from where every client of AWS finds them: the environment, a profile, the instance's role.

variable "region" {
  type        = string
  default     = "eu-central-1"
  description = "Where the AMI is baked."
}

variable "ami_regions" {
  type        = list(string)
  default     = []
  description = "Where it is copied to."
}

variable "ami_users" {
  type        = list(string)
  default     = []
  description = "Accounts that may launch it beside our own; `kms_keys` has to name a key for each region then."
}

variable "ami_groups" {
  type        = list(string)
  default     = []
  description = "`all` makes it public, and not encrypted: EC2 refuses the public what a key of ours encrypts."
}

variable "kms_keys" {
  type        = map(string)
  default     = {}
  description = "Region to key of the snapshots there; if empty, each region's default key, which cannot be shared."
}

variable "source_owner" {
  type        = string
  default     = "136693071363"
  description = "Account that owns the AMI to start from: Debian's."
}

variable "source_name" {
  type        = string
  default     = ""
  description = "Name of the AMI to start from; if empty, Debian 12's. The newest is taken that matches."
}

variable "subnet" {
  type        = string
  default     = ""
  description = "Where the instance is provisioned that becomes the AMI; if empty, in the default VPC."
}

variable "ssh_sources" {
  type        = list(string)
  default     = ["0.0.0.0/0"]
  description = "Networks that reach that instance's SSH daemon, which knows one key, for as long as it lives."
}

variable "publish" {
  type        = string
  default     = "cargo xtask image publish"
  description = "Called with Packer's manifest once the AMI is everywhere; `true` leaves it unpublished."
}

# For the rehearsal (`cargo xtask image rehearse-ami`), which has no AWS; empty, they change nothing.

variable "endpoint" {
  type        = string
  default     = ""
  description = "URL of another EC2."
}

variable "ssh_host" {
  type        = string
  default     = ""
  description = "Address to provision instead of the instance's."
}

variable "ssh_port" {
  type    = number
  default = 22
}

variable "ami_ssh_key" {
  type        = string
  default     = ""
  description = "Private key that this address knows; if empty, EC2 makes one for this bake alone."
}

locals {
  name      = "gatehouse-${var.version}-${var.architecture}"
  deb       = "/tmp/gatehouse.deb"
  processor = var.architecture == "arm64" ? "arm64" : "x86_64"
  # A version is baked again when Debian has news, and a name is an account's once.
  ami_name  = "${local.name}-${formatdate("YYYYMMDD-hhmm", timestamp())}"
  encrypted = ! contains(var.ami_groups, "all")
  at        = "--region ${var.region}${var.endpoint == "" ? "" : " --endpoint-url ${var.endpoint}"}"
  tags = {
    Name         = local.ami_name
    Application  = "gatehouse"
    Version      = var.version
    Architecture = var.architecture
    Base         = "{{ .SourceAMIName }}"
    BaseImage    = "{{ .SourceAMI }}"
  }
}

source "qemu" "disk" {
  disk_image       = true
  iso_url          = var.base
  iso_checksum     = "none"
  format           = "qcow2"
  disk_interface   = "virtio"
  disk_size        = "4G"
  disk_compression = true
  disk_discard     = "unmap"
  net_device       = "virtio-net"
  accelerator      = var.accelerator
  headless         = true
  cpus             = 2
  memory           = 1024
  output_directory = var.output
  vm_name          = "${local.name}.qcow2"

  communicator           = "ssh"
  ssh_username           = "admin"
  ssh_private_key_file   = var.ssh_key
  ssh_timeout            = "20m"
  ssh_handshake_attempts = 100
  boot_wait              = "1s"
  shutdown_command       = "sudo systemctl poweroff"
  shutdown_timeout       = "5m"
  http_directory         = var.seed

  qemuargs = [
    # The seed comes by Packer's own server, so no second disk has to be made.
    ["-smbios", "type=1,serial=ds=nocloud-net;s=http://{{ .HTTPIP }}:{{ .HTTPPort }}/"],
    # Packer's own line would forward from every address of this machine.
    ["-netdev", "user,id=user.0,hostfwd=tcp:127.0.0.1:{{ .SSHHostPort }}-:22"],
    ["-serial", "file:${var.output}.console"],
    ["-device", "virtio-rng-pci"],
  ]
}

source "amazon-ebs" "ami" {
  region              = var.region
  custom_endpoint_ec2 = var.endpoint
  subnet_id           = var.subnet
  instance_type       = var.architecture == "arm64" ? "t4g.small" : "t3.small"
  # Whatever powers it off, nothing is left running, or stopped and paid for.
  shutdown_behavior = "terminate"

  source_ami_filter {
    filters = {
      name                = var.source_name == "" ? "debian-12-${var.architecture}-*" : var.source_name
      architecture        = local.processor
      virtualization-type = "hvm"
    }
    owners      = [var.source_owner]
    most_recent = true
  }

  communicator                          = "ssh"
  ssh_username                          = "admin"
  ssh_host                              = var.ssh_host
  ssh_port                              = var.ssh_port
  ssh_private_key_file                  = var.ami_ssh_key
  ssh_timeout                           = "20m"
  ssh_handshake_attempts                = 100
  temporary_security_group_source_cidrs = var.ssh_sources

  ami_name           = local.ami_name
  ami_description    = "Gatehouse ${var.version} on Debian 12, ${var.architecture}"
  ami_regions        = var.ami_regions
  ami_users          = var.ami_users
  ami_groups         = var.ami_groups
  ena_support        = true
  encrypt_boot       = local.encrypted
  kms_key_id         = lookup(var.kms_keys, var.region, "")
  region_kms_key_ids = { for region in var.ami_regions : region => lookup(var.kms_keys, region, "") }

  launch_block_device_mappings {
    device_name = "/dev/xvda"
    # From its first block: else it would lie in clear until the encrypted copy is made.
    encrypted             = local.encrypted
    volume_type           = "gp3"
    volume_size           = 8
    iops                  = 3000
    throughput            = 125
    delete_on_termination = true
  }

  # Copies to the far side of the world take longer than a waiter of the SDK waits.
  aws_polling {
    delay_seconds = 15
    max_attempts  = 240
  }

  tags            = local.tags
  snapshot_tags   = local.tags
  run_tags        = { Name = "baking ${local.ami_name}", Application = "gatehouse" }
  run_volume_tags = { Name = "baking ${local.ami_name}", Application = "gatehouse" }
}

build {
  sources = ["source.qemu.disk", "source.amazon-ebs.ami"]

  # Packer 1.6.6 cannot start an instance so that it answers IMDSv2 alone.
  provisioner "shell-local" {
    only   = ["amazon-ebs.ami"]
    inline = ["aws ec2 modify-instance-metadata-options ${local.at} --instance-id ${build.ID} --http-tokens required --http-endpoint enabled"]
  }

  provisioner "shell" {
    inline = ["cloud-init status --wait"]
  }

  provisioner "file" {
    source      = var.package
    destination = local.deb
  }

  provisioner "shell" {
    execute_command = "chmod +x {{ .Path }}; sudo env {{ .Vars }} {{ .Path }}"
    environment_vars = [
      "PACKAGE=${local.deb}",
      "KEEP_SSH=${var.keep_ssh}",
      "SSM_AGENT_URL=${var.ssm_agent_url}",
      "SSM_AGENT_SHA256=${var.ssm_agent_sha256}",
    ]
    # The last one takes the SSH daemon away, and with it the way to remove the script.
    skip_clean = true
    scripts = [
      "packer/provision/10-packages.sh",
      "packer/provision/20-gatehouse.sh",
      "packer/provision/30-system.sh",
      "packer/provision/90-clean.sh",
    ]
  }

  post-processors {
    post-processor "manifest" {
      output = "${var.output}.manifest.json"
      custom_data = {
        version      = var.version
        architecture = var.architecture
      }
    }

    # Behind the manifest, which keeps the AMI whatever comes of this.
    post-processor "shell-local" {
      only   = ["amazon-ebs.ami"]
      inline = ["${var.publish} ${var.output}.manifest.json"]
    }
  }
}
