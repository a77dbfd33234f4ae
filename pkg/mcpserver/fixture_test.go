package mcpserver

func fixture() bool { return false }
