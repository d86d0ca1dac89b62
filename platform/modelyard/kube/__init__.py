"""The Kubernetes API as seven verbs over plain objects. The vendor's client has its one home in `client`."""
