"""Interest extractors: from a history of item vectors to K interests."""
