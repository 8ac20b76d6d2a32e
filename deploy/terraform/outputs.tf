output "application" {
  description = "The deployed application."
  value       = juju_application.trainer
}

output "provides" {
  description = "The endpoints that the charm provides."
  value = {
    grafana_dashboard = "grafana-dashboard"
    metrics_endpoint  = "metrics-endpoint"
    trained_model     = "trained-model"
  }
}

output "requires" {
  description = "The endpoints that the charm requires."
  value = {
    dashboard_links = "dashboard-links"
    kfp_api         = "kfp-api"
    logging         = "logging"
    object_storage  = "object-storage"
  }
}
