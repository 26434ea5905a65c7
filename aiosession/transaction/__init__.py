"""What commits together? Transactions on one bind, over all binds of a session, and the context of a session."""
