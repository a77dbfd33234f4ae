package policy

import (
	"context"
	"fmt"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// baseData answers look-ups in data from the revision's own root, where OPA's
// cache would begin empty with each decision and read everything from the
// store again. It is valid as long as no transaction has been committed since,
// which is what a [revision] is.
type baseData struct{ root ast.Value }

var _ topdown.BaseCache = baseData{}

func readBaseData(ctx context.Context, store storage.Store, txn storage.Transaction) (baseData, error) {
	v, err := store.Read(ctx, txn, storage.RootPath)
	if err != nil {
		return baseData{}, err
	}
	root, ok := v.(ast.Value)
	if !ok {
		return baseData{}, fmt.Errorf("the store holds %T instead of OPA values", v)
	}
	return baseData{root}, nil
}

// Get finds a document; what it does not find OPA looks for in the store.
func (d baseData) Get(ref ast.Ref) ast.Value {
	v, err := d.root.Find(ref[1:])
	if err != nil {
		return nil
	}
	return v
}

func (d baseData) Put(ast.Ref, ast.Value) {}
