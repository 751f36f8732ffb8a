"""One outside thing each. Imports schemas only; satisfies `agent.ports` by shape."""
