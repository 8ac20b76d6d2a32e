variable "charm_path" {
  description = "The trainer's packed charm; null takes it from Charmhub."
  type        = string
  default     = null
}

variable "config" {
  description = "Options of the trainer besides those in bundle.yaml."
  type        = map(string)
  default     = {}
}

variable "model_uuid" {
  description = "UUID of the Juju model to deploy to; its name must be kubeflow."
  type        = string
}
