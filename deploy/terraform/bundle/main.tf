# What bundle.yaml deploys: its applications, channels, options and relations are read from there.

locals {
  bundle    = yamldecode(file("${path.module}/../../../bundle.yaml"))
  trainer   = local.bundle.applications.trainer
  kubeflow  = { for name, each in local.bundle.applications : name => each if name != "trainer" }
  relations = { for ends in local.bundle.relations : join(" ", ends) => ends }
}

module "trainer" {
  source     = "../"
  model_uuid = var.model_uuid
  charm_path = var.charm_path
  config     = merge(local.trainer.options, var.config)
  resources  = local.trainer.resources
  units      = local.trainer.scale
}

resource "juju_application" "kubeflow" {
  for_each   = local.kubeflow
  name       = each.key
  model_uuid = var.model_uuid

  charm {
    name    = each.value.charm
    channel = each.value.channel
  }

  config      = try(each.value.options, {})
  constraints = try(each.value.constraints, null)
  trust       = try(each.value.trust, false)
  units       = each.value.scale
}

resource "juju_integration" "kubeflow" {
  for_each   = local.relations
  model_uuid = var.model_uuid

  dynamic "application" {
    for_each = each.value
    content {
      name     = split(":", application.value)[0]
      endpoint = split(":", application.value)[1]
    }
  }

  depends_on = [juju_application.kubeflow, module.trainer]
}
