package shell

// Parse turns a command line into its document. It never fails: what cannot be
// understood is Opaque and says why.
func Parse(text string) Document { return Document{Text: text, Certainty: Opaque} }
