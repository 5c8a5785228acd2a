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

# AWS

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
  description = "Accounts that may launch it beside our own."
}

variable "kms_key" {
  type        = string
  default     = ""
  description = "Key of the encrypted snapshot; empty, the account's default. Sharing takes a key of one's own."
}

locals {
  name      = "gatehouse-${var.version}-${var.architecture}"
  deb       = "/tmp/gatehouse.deb"
  processor = var.architecture == "arm64" ? "arm64" : "x86_64"
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
  region        = var.region
  instance_type = var.architecture == "arm64" ? "t4g.small" : "t3.small"

  source_ami_filter {
    filters = {
      name                = "debian-12-${var.architecture}-*"
      architecture        = local.processor
      virtualization-type = "hvm"
    }
    # Debian's account.
    owners      = ["136693071363"]
    most_recent = true
  }

  communicator = "ssh"
  ssh_username = "admin"

  ami_name     = local.name
  ami_regions  = var.ami_regions
  ami_users    = var.ami_users
  ena_support  = true
  encrypt_boot = true
  kms_key_id   = var.kms_key

  launch_block_device_mappings {
    device_name           = "/dev/xvda"
    volume_type           = "gp3"
    volume_size           = 8
    iops                  = 3000
    throughput            = 125
    delete_on_termination = true
  }

  tags = {
    Name         = local.name
    Version      = var.version
    Architecture = var.architecture
    Base         = "{{ .SourceAMIName }}"
  }
}

build {
  sources = ["source.qemu.disk", "source.amazon-ebs.ami"]

  provisioner "shell" {
    inline = ["cloud-init status --wait"]
  }

  provisioner "file" {
    source      = var.package
    destination = local.deb
  }

  provisioner "shell" {
    execute_command  = "chmod +x {{ .Path }}; sudo env {{ .Vars }} {{ .Path }}"
    environment_vars = ["PACKAGE=${local.deb}", "KEEP_SSH=${var.keep_ssh}"]
    # The last one takes the SSH daemon away, and with it the way to remove the script.
    skip_clean = true
    scripts = [
      "packer/provision/10-packages.sh",
      "packer/provision/20-gatehouse.sh",
      "packer/provision/30-system.sh",
      "packer/provision/90-clean.sh",
    ]
  }

  post-processor "manifest" {
    output = "${var.output}.manifest.json"
  }
}
