# For Packer 1.7 and newer, where builders are plugins: `packer init packer && packer build packer`. Packer 1.6.6, which
# Debian has, refuses this block and needs none of it: `packer build packer/image.pkr.hcl`.
packer {
  required_plugins {
    amazon = {
      source  = "github.com/hashicorp/amazon"
      version = ">= 1.2.0"
    }
    qemu = {
      source  = "github.com/hashicorp/qemu"
      version = ">= 1.0.0"
    }
  }
}
