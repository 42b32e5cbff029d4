package index

// Unpack gives tests the ranges that bytes stand for in an object of that size.
func Unpack(b []byte, size int64) ([][2]int64, error) {
	e := Entry{Size: size}
	err := e.unpack(b)
	return e.Ranges, err
}
