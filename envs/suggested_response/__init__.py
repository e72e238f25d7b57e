"""The suggested-response problem (arXiv 2511.21638): an agent proposes what a business should write, and the
business decides what its customer reads. Around any world; see ``envs.suggested_response.env``."""
