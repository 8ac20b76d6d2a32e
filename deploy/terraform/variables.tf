variable "app_name" {
  description = "Name of the application in the Juju model."
  type        = string
  default     = "trainer"
}

variable "base" {
  description = "The charm's base."
  type        = string
  default     = "ubuntu@22.04"
}

variable "channel" {
  description = "The channel of Charmhub to deploy the charm from."
  type        = string
  default     = "latest/edge"
}

variable "charm_path" {
  description = "A packed charm, which is deployed instead of the one in Charmhub."
  type        = string
  default     = null
}

variable "config" {
  description = "Options of the charm; see charmcraft.yaml."
  type        = map(string)
  default     = {}
}

variable "constraints" {
  description = "Juju's constraints for the application."
  type        = string
  default     = null
}

variable "model_uuid" {
  description = "UUID of the Juju model to deploy to."
  type        = string
}

variable "resources" {
  description = "Resources of the charm: the revision in Charmhub, or an image's name."
  type        = map(string)
  default     = {}

  validation {
    condition     = var.charm_path == null || contains(keys(var.resources), "pushgateway-image")
    error_message = "A charm from a file brings no images; name them: resources = { pushgateway-image = \"docker.io/prom/pushgateway:v1.11.1\" }."
  }
}

variable "revision" {
  description = "The charm's revision in Charmhub; the channel's newest if not given."
  type        = number
  default     = null
}

variable "units" {
  description = "How many units to deploy."
  type        = number
  default     = 1
}
