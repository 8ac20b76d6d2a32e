"""From options, relations and requests to what exists: observe, plan, apply, and a snapshot."""
