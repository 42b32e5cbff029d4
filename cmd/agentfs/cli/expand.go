package cli

import (
	"fmt"
	"strings"
)

// expandEnv replaces $VAR and ${VAR} by the variable's value, and $$ by one
// dollar sign. A variable that is not set is an error: an empty bucket or
// prefix in its place would mean another store.
func expandEnv(s string, lookup func(string) (string, bool)) (string, error) {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, "$")
		b.WriteString(before)
		if !ok {
			return b.String(), nil
		}
		if strings.HasPrefix(after, "$") {
			b.WriteByte('$')
			s = after[1:]
			continue
		}
		var name string
		if strings.HasPrefix(after, "{") {
			if name, s, ok = strings.Cut(after[1:], "}"); !ok {
				return "", fmt.Errorf("${ without a closing brace (a dollar sign itself is written $$)")
			}
		} else {
			n := 0
			for n < len(after) && isVarByte(after[n], n) {
				n++
			}
			name, s = after[:n], after[n:]
		}
		for i := range len(name) {
			if !isVarByte(name[i], i) {
				return "", fmt.Errorf("${%s} does not name a variable (a dollar sign itself is written $$)", name)
			}
		}
		if name == "" {
			return "", fmt.Errorf("a $ without a name after it (a dollar sign itself is written $$)")
		}
		v, ok := lookup(name)
		if !ok {
			return "", fmt.Errorf("the variable $%s is not set", name)
		}
		b.WriteString(v)
	}
}

// isVarByte reports whether c can be the i-th byte of a variable's name.
func isVarByte(c byte, i int) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || i > 0 && '0' <= c && c <= '9'
}
