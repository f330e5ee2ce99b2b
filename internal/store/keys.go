package store

// The prefixes of keys. Each belongs to one package, which documents the keys and values
// behind it; no other package writes them. No prefix begins another one. docs/store.md
// lists them all.
var (
	// PrefixBody is queue's: chunks of message bodies.
	PrefixBody = []byte("b")
	// PrefixMessage is queue's: envelopes and delivery state.
	PrefixMessage = []byte("e")
	// PrefixQueue is queue's: marks that concern the queue as a whole. Below it is
	// KeyFormat too, which the engine writes.
	PrefixQueue = []byte("q")
	// PrefixTrash is queue's: messages that the operator has removed.
	PrefixTrash = []byte("d")
	// PrefixPolicy is the policy cache's (sts).
	PrefixPolicy = []byte("p/")
	// PrefixNotice is relay/notify's: notices that wait for a digest.
	PrefixNotice = []byte("n/")
	// PrefixTold is relay/notify's: senders that were told that mail waits for
	// protection.
	PrefixTold = []byte("w/")
	// PrefixOperator is relay/alert's: alerts that the operator was told of.
	PrefixOperator = []byte("o/")
	// PrefixReport is tlsrpt's: counts and reports.
	PrefixReport = []byte("t/")
	// PrefixReceived is relay/received's: reports about domains of the operator.
	PrefixReceived = []byte("r/")
	// PrefixPublish is relay/publisher's: the policies that are published.
	PrefixPublish = []byte("a/d/")
	// PrefixACME is relay/acme's: accounts and certificates of certificate authorities.
	PrefixACME = []byte("a/c/")
	// PrefixEngine is the engine's own: what the store knows of itself.
	PrefixEngine = []byte("i")
)
