"""The exhibits of the story, one module a chapter: a frame goes in, a chart or table with its conclusion comes out."""
