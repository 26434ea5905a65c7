"""Extensions: each is a module of its own, and uses nothing but public names."""
