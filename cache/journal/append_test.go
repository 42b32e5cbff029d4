package journal

import "testing"

// What is appended comes after what is there, and can be cut off again.
func TestBatchAppend(t *testing.T) {
	var a, b Batch
	a.Put("one", []byte("1"))
	b.Put("two", []byte("22"))
	b.Delete("one")
	a.Append(&b)
	if a.Len() != 3 || string(a.key(a.ops[1])) != "two" || string(a.value(a.ops[1])) != "22" || string(a.key(a.ops[2])) != "one" {
		t.Errorf("appended: %+v", a)
	}
	a.Truncate(1)
	a.Put("three", []byte("333"))
	if a.Len() != 2 || string(a.key(a.ops[0])) != "one" || string(a.value(a.ops[1])) != "333" {
		t.Errorf("cut and gone on: %+v", a)
	}
}
