"""Teaching: a model learns from the objects that a user accepted, and is offered only if it became better."""
