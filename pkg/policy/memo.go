package policy

import "sync"

// memo remembers what came of something within a bound: it is two halves, and when
// the younger one is full the older one is forgotten. What is asked for again moves
// to the younger half, so what is in use stays.
type memo[K comparable, V any] struct {
	room int // in bytes, of each half

	mu         sync.Mutex
	young, old map[K]kept[V]
	bytes      int // in the younger half
}

type kept[V any] struct {
	value V
	size  int
}

func newMemo[K comparable, V any](room int) *memo[K, V] {
	return &memo[K, V]{room: room / 2, young: map[K]kept[V]{}}
}

func (m *memo[K, V]) get(key K) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.young[key]
	if !ok {
		if k, ok = m.old[key]; ok {
			m.keep(key, k)
		}
	}
	return k.value, ok
}

func (m *memo[K, V]) put(key K, value V, size int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(key, kept[V]{value, size + perEntry})
}

// perEntry is what a map takes for an entry, about.
const perEntry = 100

func (m *memo[K, V]) keep(key K, k kept[V]) {
	if _, ok := m.young[key]; ok {
		return
	}
	if m.bytes += k.size; m.bytes > m.room {
		m.old, m.young, m.bytes = m.young, map[K]kept[V]{}, k.size
	}
	m.young[key] = k
}
