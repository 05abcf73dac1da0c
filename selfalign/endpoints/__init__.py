"""Model servers elsewhere: asking them, at their pace, and remembering what they said."""
