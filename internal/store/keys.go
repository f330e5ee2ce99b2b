package store

// Key prefixes. Each belongs to one package, which documents what stands
// behind it; two packages never write the same prefix. The key "i" is the engine's
// own. docs/store.md lists them.
var (
	// PrefixBody is the queue's: chunks of message bodies.
	PrefixBody = []byte("b")
	// PrefixMessage is the queue's: envelopes and delivery state.
	PrefixMessage = []byte("e")
	// PrefixQueue is the queue's: marks that concern the queue as a whole.
	PrefixQueue = []byte("q")
	// PrefixTrash is the queue's: messages that the operator has removed.
	PrefixTrash = []byte("d")
	// PrefixPolicy is the policy cache's.
	PrefixPolicy = []byte("p/")
	// PrefixNotice is relay/notify's: notices that wait for a digest.
	PrefixNotice = []byte("n/")
	// PrefixTold is relay/notify's: who was told that mail waits for protection.
	PrefixTold = []byte("w/")
	// PrefixOperator is relay/alert's: what the operator was told.
	PrefixOperator = []byte("o/")
	// PrefixReport is the report counts'.
	PrefixReport = []byte("t/")
)
