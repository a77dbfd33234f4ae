package policies

import "io/fs"

// Profiles are the names of the shipped command profiles, in order.
func Profiles() []string {
	dirs, err := fs.ReadDir(Files, "sallyport/profiles/named")
	if err != nil {
		panic("policies: the embedded bundle has no profiles: " + err.Error())
	}
	names := make([]string, 0, len(dirs))
	for _, d := range dirs {
		names = append(names, d.Name())
	}
	return names
}
