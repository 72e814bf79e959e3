"""Text teachers: what they read, how they are trained, and what they hand to a student."""
