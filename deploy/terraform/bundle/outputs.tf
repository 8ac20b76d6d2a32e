output "trainer" {
  description = "The trainer: its application, and the endpoints that it provides and requires."
  value       = module.trainer
}
