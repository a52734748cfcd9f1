"""The provider's half of the wire: connections to it, and the pump that carries bytes from it to a client."""
