"""Small builders for tests: the demo's rules, facts with sane defaults, and a story that feeds them to the core."""
