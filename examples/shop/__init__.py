"""A shop whose accounts and orders lie in two databases: money and order go together, whatever dies in between."""
