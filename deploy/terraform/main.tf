resource "juju_application" "trainer" {
  name       = var.app_name
  model_uuid = var.model_uuid

  dynamic "charm" {
    for_each = var.charm_path == null ? [var.channel] : []
    content {
      name     = "fashion-mnist-trainer"
      base     = var.base
      channel  = charm.value
      revision = var.revision
    }
  }

  dynamic "local_charm" {
    for_each = var.charm_path == null ? [] : [var.charm_path]
    content {
      name = "fashion-mnist-trainer"
      base = var.base
      path = local_charm.value
    }
  }

  config      = var.config
  constraints = var.constraints
  resources   = var.resources
  units       = var.units
  # It creates its profile, binds itself there and gets its token.
  trust = true
}
