package cli

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"github.com/agentfs/agentfs/backends"
)

// checkSecrets refuses credentials among a route's values, without showing
// them: configuration is printed, logged and shown in process lists. What came
// from a variable of the environment is where it belongs, for the backends whose
// servers want it so.
func (r *routeConfig) checkSecrets() error {
	for _, k := range slices.Sorted(maps.Keys(r.values)) {
		o := r.values[k]
		if slices.ContainsFunc(valuesOf(o), func(v string) bool { return r.hasCredentials(v) }) && !(o.Expanded && r.takesSecrets()) {
			return fmt.Errorf("%s: %s: contains credentials; %s", o.Source, k, credentialsRemedy(r.backend))
		}
	}
	return nil
}

// takesSecrets reports whether a secret in the environment reaches the
// backend's server only through the route's options.
func (r *routeConfig) takesSecrets() bool { return r.backend == "sql" || r.backend == "exec" }

// hasCredentials reports whether v is a URL with credentials in it.
func (r *routeConfig) hasCredentials(v string) bool {
	if r.backend == "sql" {
		return hasPassword(v)
	}
	return hasUserinfo(v)
}

func credentialsRemedy(backend string) string {
	switch backend {
	case "sql":
		return "take the password out and give it as PGPASSWORD or in ~/.pgpass, or write a variable in its place in the configuration file: $VAR"
	case "exec":
		return "take them out: the program has the environment of agentfs"
	}
	return "take them out and give them as the AWS SDK finds them: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile in ~/.aws"
}

// valuesOf returns all that an option's value has.
func valuesOf(o backends.Option) []string {
	if o.List != nil {
		return o.List
	}
	return []string{o.Value}
}

// hasUserinfo reports whether v is a URL with a user or a password in it.
func hasUserinfo(v string) bool { return userinfo(v) != "" }

// hasPassword reports whether v is a URL with a password in it, before the host
// or among its parameters.
func hasPassword(v string) bool {
	_, query, _ := strings.Cut(v, "?")
	return strings.Contains(userinfo(v), ":") || hasQuery(v) && isSecretKey(query)
}

// userinfo returns what stands before the @ of a URL, with the @.
func userinfo(v string) string {
	_, rest, ok := strings.Cut(v, "://")
	if !ok {
		return ""
	}
	authority := rest
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority = rest[:i]
	}
	if at := strings.LastIndexByte(rest, '@'); !strings.Contains(authority, "@") && at >= 0 && !portOnly(authority) {
		return rest[:at+1] // a password with one of these characters as it is
	}
	i := strings.LastIndexByte(authority, '@')
	return authority[:i+1]
}

// portOnly reports whether a colon in an authority without a user, if there is one,
// comes before a port.
func portOnly(authority string) bool {
	_, port, ok := strings.Cut(authority, ":")
	return !ok || strings.HasSuffix(authority, "]") || strings.Trim(port[strings.LastIndexByte(port, ':')+1:], "0123456789") == ""
}

// withheld reports whether the value of a route's key may be a secret, going by
// its name, its form and where it came from.
func (r *routeConfig) withheld(key string) bool {
	o := r.values[key]
	if isSecretKey(key) || o.Expanded && r.takesSecrets() {
		return true
	}
	return slices.ContainsFunc(valuesOf(o), func(v string) bool {
		switch r.backend {
		case "sql":
			return hasPassword(v)
		case "exec":
			return isSecretKey(v) || hasUserinfo(v) || hasQuery(v)
		}
		return hasUserinfo(v) || hasQuery(v)
	})
}

// isSecretKey reports whether the option called key may hold a secret, going
// by its name.
func isSecretKey(key string) bool {
	key = strings.ReplaceAll(strings.ToLower(key), "-", "_")
	return slices.ContainsFunc([]string{
		"secret", "token", "password", "passwd", "passphrase", "credential",
		"access_key", "api_key", "account_key", "private_key", "shared_key", "signature",
	}, func(part string) bool { return strings.Contains(key, part) })
}

// hasQuery reports whether v is a URL with a query, which may be a signature.
func hasQuery(v string) bool {
	_, rest, ok := strings.Cut(v, "://")
	return ok && strings.Contains(rest, "?")
}

// redact returns s, which a user gave as a route, without any credentials.
func redact(s string) string {
	if info := userinfo(s); info != "" {
		scheme, rest, _ := strings.Cut(s, "://")
		s = scheme + "://(credentials removed)@" + rest[len(info):]
	}
	// Of a query only the keys are shown; it may hold anything here.
	if place, _, ok := strings.Cut(s, "?"); ok {
		return place + "?..."
	}
	return s
}

// withoutSecrets returns the place that a database's connection string names.
func withoutSecrets(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil || u.Host == "" {
		return "postgres:..."
	}
	return u.Scheme + "://" + u.Host + u.Path
}
