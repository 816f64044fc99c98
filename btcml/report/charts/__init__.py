"""The exhibits of the story: a function takes a frame and returns one chart or table with its conclusion."""
