terraform {
  required_version = ">= 1.9"
  required_providers {
    juju = {
      source = "juju/juju"
      # The first one that deploys a charm from a file.
      version = ">= 2.3.0, < 3.0.0"
    }
  }
}
