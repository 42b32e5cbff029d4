package exec

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
)

// A frame is two lengths of 4 bytes each, most significant byte first, then as
// many bytes of JSON and of raw content.
const (
	frameHead = 8
	// maxJSON bounds what a frame may make this process allocate. A page of a
	// listing with the longest names is below it.
	maxJSON = 16 << 20
	// MaxBody is how many bytes of content a frame has at most. What is larger
	// comes in pieces.
	MaxBody = 1 << 20
)

// encodeFrame returns the head and the JSON of a frame whose content has n
// bytes.
func encodeFrame(message any, n int) ([]byte, error) {
	text, err := json.Marshal(message)
	if err != nil {
		return nil, err
	}
	head := make([]byte, frameHead, frameHead+len(text))
	binary.BigEndian.PutUint32(head, uint32(len(text)))
	binary.BigEndian.PutUint32(head[4:], uint32(n))
	return append(head, text...), nil
}

// readFrame reads one frame. io.EOF means that the program has closed its
// output between two frames.
func readFrame(r io.Reader) (text, body []byte, err error) {
	var head [frameHead]byte
	if n, err := io.ReadFull(r, head[:]); err != nil {
		if n > 0 {
			err = fmt.Errorf("its output ends within the head of a frame: %q", head[:n])
		}
		return nil, nil, err
	}
	jsonLen, bodyLen := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
	switch {
	case jsonLen < 2 || jsonLen > maxJSON:
		return nil, nil, violationf("what is no frame, beginning with %q (what it prints for people belongs on standard error)", head[:])
	case bodyLen > MaxBody:
		return nil, nil, violationf("a frame with %d bytes of content; there may be %d", bodyLen, MaxBody)
	}
	text = make([]byte, jsonLen)
	body = make([]byte, bodyLen)
	for _, part := range [][]byte{text, body} {
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, nil, fmt.Errorf("its output ends within a frame of %d and %d bytes", jsonLen, bodyLen)
		}
	}
	return text, body, nil
}
