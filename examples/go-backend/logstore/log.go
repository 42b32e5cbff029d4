package logstore

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/agentfs/agentfs/backends"
)

// record is one change: a line of JSON, which for a put Size bytes of content
// follow, and a newline.
type record struct {
	Op        string           `json:"op"` // put, mkdir or remove
	Name      []byte           `json:"name"`
	Size      int64            `json:"size,omitempty"`
	Time      time.Time        `json:"time,omitzero"`
	Version   backends.Version `json:"version,omitempty"`
	Operation string           `json:"operation,omitempty"`
}

// append makes a change: it is in the index once it is on the disk. s.mu is held.
func (s *Store) append(ctx context.Context, r record, body *io.SectionReader) error {
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	start := s.end + int64(len(line)) + 1
	if err := s.write(ctx, line, body); err != nil {
		// The rest of what has failed must not be the end of a later record.
		return errors.Join(err, s.file.Truncate(s.end))
	}
	s.end = start + r.Size + 1
	s.apply(r, start)
	return nil
}

// write writes a record behind the end of the log.
func (s *Store) write(ctx context.Context, line []byte, body *io.SectionReader) error {
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.end), 1<<20)
	w.Write(line) // its error is that of Flush
	w.WriteByte('\n')
	if body != nil {
		n, err := io.Copy(w, io.NewSectionReader(body, 0, body.Size()))
		if err == nil && n != body.Size() {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
	}
	w.WriteByte('\n')
	if err := errors.Join(w.Flush(), ctx.Err()); err != nil {
		return err
	}
	return s.file.Sync()
}

// apply makes the change that r says in the index. off is where its content is.
// s.mu is held.
func (s *Store) apply(r record, off int64) {
	name := string(r.Name)
	switch r.Op {
	case "put":
		s.add(&node{off: off, Entry: backends.Entry{
			Name: name, Size: r.Size, ModTime: r.Time, Version: r.Version, Operation: r.Operation,
		}})
	case "mkdir":
		s.add(newDir(name))
	case "remove":
		delete(s.nodes, name)
		delete(s.nodes[path.Dir(name)].children, path.Base(name))
	}
}

// add gives n its name, and makes missing parents.
func (s *Store) add(n *node) {
	dir := path.Dir(n.Name)
	if s.nodes[dir] == nil {
		s.add(newDir(dir))
	}
	s.nodes[dir].children[path.Base(n.Name)] = struct{}{}
	s.nodes[n.Name] = n
}

// replay makes the index. What follows the last whole record was never
// acknowledged.
func (s *Store) replay() error {
	st, err := s.file.Stat()
	if err != nil {
		return err
	}
	in := bufio.NewReaderSize(io.NewSectionReader(s.file, 0, st.Size()), 1<<20)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return nil
		}
		var r record
		if json.Unmarshal(line, &r) != nil || r.Size < 0 || backends.CheckName("replay", string(r.Name)) != nil {
			if s.end == 0 {
				return fmt.Errorf("this is no log: it begins with %.40q", line)
			}
			return nil
		}
		start := s.end + int64(len(line))
		if start+r.Size+1 > st.Size() {
			return nil
		}
		if _, err := io.CopyN(io.Discard, in, r.Size+1); err != nil {
			return err
		}
		s.apply(r, start)
		s.end = start + r.Size + 1
	}
}
